//! A catalog (REST, or Glue) and an S3 server of a test's own, started by the project's scripts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Both; gone with this value.
pub struct LakeServices {
    folder: TempDir,
    /// Which catalog it is.
    kind: Service,
    s3: BTreeMap<String, String>,
    catalog: BTreeMap<String, String>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    S3,
    Catalog,
    Glue,
}

impl Service {
    fn script(self) -> PathBuf {
        let path = match self {
            Self::S3 => "infra/s3/s3.sh",
            Self::Catalog => "infra/catalog/catalog.sh",
            Self::Glue => "infra/glue/glue.sh",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }
}

impl LakeServices {
    /// With a REST catalog.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(Service::Catalog)
    }

    /// With that catalog.
    #[track_caller]
    pub fn with(kind: Service) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (s3, catalog) = (BTreeMap::new(), BTreeMap::new());
        let mut this = Self { folder, kind, s3, catalog };
        this.begin(Service::S3);
        this.begin(kind);
        this
    }

    fn folder(&self, service: Service) -> PathBuf {
        self.folder.path().join(match service {
            Service::S3 => "s3",
            Service::Catalog => "catalog",
            Service::Glue => "glue",
        })
    }

    /// Calls the script; what it says.
    #[track_caller]
    fn call(&self, service: Service, verb: &str) -> String {
        let output = Command::new(service.script())
            .arg(verb)
            .arg(self.folder(service))
            .envs(&self.s3)
            .stdin(Stdio::null())
            .output()
            .expect("the script starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{service:?} {verb}: {said}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Starts it, or starts it again with what it has, on the same port.
    #[track_caller]
    pub fn begin(&mut self, service: Service) {
        self.call(service, "start");
        let told = self.call(service, "env");
        let told = told.lines().filter_map(|line| line.split_once('='));
        let told = told.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        match service {
            Service::S3 => self.s3 = told,
            Service::Catalog | Service::Glue => self.catalog = told,
        }
    }

    #[track_caller]
    pub fn stop(&self, service: Service) {
        self.call(service, "stop");
    }

    #[track_caller]
    pub fn kill(&self, service: Service) {
        self.call(service, "kill");
    }

    /// Which catalog it is.
    pub fn kind(&self) -> Service {
        self.kind
    }

    /// What the environment of a reader has to hold.
    pub fn environment(&self) -> impl Iterator<Item = (&String, &String)> {
        self.s3.iter().chain(&self.catalog)
    }

    /// Where a service answers.
    pub fn url(&self, service: Service) -> &str {
        match service {
            Service::S3 => &self.s3["AGENTFLOW_S3_ENDPOINT"],
            Service::Catalog => &self.catalog["AGENTFLOW_ICEBERG_REST"],
            Service::Glue => &self.catalog["AWS_ENDPOINT_URL_GLUE"],
        }
    }

    /// Where tables in Glue go.
    pub fn glue_warehouse(&self) -> String {
        format!("s3://{}/warehouse", self.s3["AGENTFLOW_S3_BUCKET"])
    }

    /// Objects of the bucket lie below as files of their names.
    pub fn objects(&self) -> PathBuf {
        self.folder(Service::S3).join("data").join(&self.s3["AGENTFLOW_S3_BUCKET"])
    }

    /// Options that name the lake; `change` may change its properties first.
    pub fn options(&self, change: impl FnOnce(&mut BTreeMap<String, String>)) -> Vec<String> {
        let s3 = |name: &str| self.s3[&format!("AGENTFLOW_S3_{name}")].clone();
        let mut properties: BTreeMap<String, String> = [
            ("s3.endpoint", s3("ENDPOINT")),
            ("s3.access-key-id", s3("ACCESS_KEY")),
            ("s3.secret-access-key", s3("SECRET_KEY")),
            ("s3.region", s3("REGION")),
            ("s3.path-style-access", "true".to_owned()),
            ("s3.disable-config-load", "true".to_owned()),
            ("s3.disable-ec2-metadata", "true".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if self.kind == Service::Glue {
            for (key, name) in [
                ("glue.endpoint", "AWS_ENDPOINT_URL_GLUE"),
                ("glue.region", "AWS_REGION"),
                ("glue.access-key-id", "AWS_ACCESS_KEY_ID"),
                ("glue.secret-access-key", "AWS_SECRET_ACCESS_KEY"),
            ] {
                properties.insert(key.to_owned(), self.catalog[name].clone());
            }
        }
        change(&mut properties);
        let lines: Vec<String> =
            properties.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let file = tempfile::NamedTempFile::new_in(self.folder.path()).expect("a file");
        let file = file.into_temp_path().keep().expect("a file");
        std::fs::write(&file, lines.join("\n")).expect("write");
        let (catalog, warehouse) = match self.kind {
            Service::Glue => ("glue:", self.glue_warehouse()),
            _ => (self.url(self.kind), self.catalog["AGENTFLOW_ICEBERG_WAREHOUSE"].clone()),
        };
        vec![
            "--lake-catalog".to_owned(),
            catalog.to_owned(),
            "--lake-warehouse".to_owned(),
            warehouse,
            "--lake-properties".to_owned(),
            file.display().to_string(),
        ]
    }
}

impl Drop for LakeServices {
    fn drop(&mut self) {
        for service in [self.kind, Service::S3] {
            if self.folder(service).exists() {
                // A test that failed may have left it stopped.
                let _ = Command::new(service.script())
                    .arg("stop")
                    .arg(self.folder(service))
                    .stdin(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
            }
        }
    }
}
