//! TLS for the API: a certificate and its key from files, taken up again when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

/// A certificate with its key. Clones share it.
#[derive(Clone)]
pub struct Tls {
    files: Arc<Files>,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.files.certificate).finish_non_exhaustive()
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds something else.
    #[error("`{}` holds no {what}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was wanted of it.
        what: &'static str,
        /// Why not.
        source: pem::Error,
    },
    /// They cannot be used together.
    #[error("certificate `{}` with key `{}`: {source}", certificate.display(), key.display())]
    Pair {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
    seen: Mutex<[Option<SystemTime>; 2]>,
}

impl Tls {
    /// Reads a PEM file with the certificate and those that vouch for it, and one with its key.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let seen = [changed(certificate), changed(key)];
        let files = Arc::new(Files {
            current: RwLock::new(load(certificate, key, &provider)?),
            certificate: certificate.to_path_buf(),
            key: key.to_path_buf(),
            provider: Arc::clone(&provider),
            seen: Mutex::new(seen),
        });
        let pair = |source| TlsError::Pair {
            certificate: certificate.to_path_buf(),
            key: key.to_path_buf(),
            source,
        };
        let resolver: Arc<dyn ResolvesServerCert> = files.clone();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { files, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Agrees with clients.
    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Takes the files up again if they have changed. A pair that cannot be used changes nothing: it may be
    /// half written.
    pub(super) fn refresh(&self) {
        let files = &self.files;
        let seen = [changed(&files.certificate), changed(&files.key)];
        let mut known = files.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == seen {
            return;
        }
        *known = seen;
        match load(&files.certificate, &files.key, &files.provider) {
            Ok(new) => {
                *files.current.write().unwrap_or_else(PoisonError::into_inner) = new;
                tracing::info!("the certificate was loaded again");
            }
            Err(error) => tracing::error!(%error, "the certificate from before stays in use"),
        }
    }
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|file| file.modified()).ok()
}

fn load(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let failed = |path: &Path, what: &'static str| {
        let path = path.to_path_buf();
        move |source| TlsError::File { path, what, source }
    };
    let chain: Result<Vec<_>, pem::Error> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.and_then(|chain| match chain.is_empty() {
        true => Err(pem::Error::NoItemsFound),
        false => Ok(chain),
    });
    let chain = chain.map_err(failed(certificate, "certificate in PEM form"))?;
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(failed(key, "private key in PEM form"))?;
    CertifiedKey::from_der(chain, secret, provider).map(Arc::new).map_err(|source| TlsError::Pair {
        certificate: certificate.to_path_buf(),
        key: key.to_path_buf(),
        source,
    })
}
