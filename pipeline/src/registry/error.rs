//! Why a schema cannot be had, for people.

/// Why a schema cannot be had or registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// An address that is none. Addresses with a password in them are not shown.
    #[error("{shown} is no address of a schema registry: {reason}")]
    Address {
        /// The address in backticks, or what stands for it.
        shown: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting that is not known, or whose value is no use. Values are not shown.
    #[error("the schema registry setting `{key}`: {reason}")]
    Setting {
        /// The setting.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No client could be made.
    #[error("make a client for the schema registry: {0}")]
    Client(String),
    /// Nobody answers, or what answers fails or is no registry. Trying again may help.
    #[error("no schema registry answers at `{url}`: {message}")]
    NotAvailable {
        /// Base URL.
        url: String,
        /// What was seen.
        message: String,
    },
    /// The registry does not take our credentials. Somebody must do something.
    #[error("the schema registry at `{url}` refuses us: {message}")]
    Refused {
        /// Base URL.
        url: String,
        /// What it said.
        message: String,
    },
    /// The registry does not take a schema.
    #[error("the schema registry at `{url}` does not take the schema for `{subject}`: {message}")]
    NotTaken {
        /// Base URL.
        url: String,
        /// Subject that it was meant for.
        subject: String,
        /// What it said.
        message: String,
    },
}

impl RegistryError {
    /// The next step.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Address { .. } => {
                "write it as http://HOST:PORT or https://HOST, with the path in front of /schemas \
                 if there is one"
            }
            Self::Setting { .. } => {
                "known are basic.auth.user.info, bearer.auth.token and ssl.ca.location"
            }
            Self::Client(_) => "is the file with the certificates one in PEM?",
            Self::NotAvailable { .. } => {
                "is it running, and does the address have the path that it needs, for instance \
                 /apis/ccompat/v7?"
            }
            Self::Refused { .. } => "check user name, password or token, and what they may read",
            Self::NotTaken { .. } => "see the compatibility rule of the subject",
        }
    }

    /// Can trying again help without anybody changing anything here?
    pub fn retry(&self) -> bool {
        // Credentials may be mended at the registry's side.
        matches!(self, Self::NotAvailable { .. } | Self::Refused { .. })
    }

    /// Does it ask a person to act?
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}
