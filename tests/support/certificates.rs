//! An authority, and what it has signed, for TLS between the exporter and PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::process::{User, command, give, run, scratch};

/// `ca.crt`; `server.crt` and `server.key` for localhost, not for 127.0.0.1; a client's for each
/// name that was asked for. The files go when this is dropped.
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// Makes them all; `clients` are the names of database roles.
    pub fn new(clients: &[&str]) -> Self {
        let certificates = Self { dir: scratch() };
        certificates.make("ca", &["-subj", "/CN=Test authority"]);
        certificates.sign("server", "/CN=localhost");
        for client in clients {
            certificates.sign(client, &format!("/CN={client}"));
        }
        certificates
    }

    /// A file: `ca.crt`, `server.key`, `NAME.crt`, ...
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// The server's end of TLS, for servers of the tests' own.
    pub fn acceptor(&self) -> TlsAcceptor {
        let certificate = CertificateDer::from_pem_file(self.path("server.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Arc::new(config).into()
    }

    fn sign(&self, name: &str, subject: &str) {
        let [crt, key] = [self.path("ca.crt"), self.path("ca.key")];
        let [crt, key] = [&crt, &key].map(|path| path.to_str().unwrap());
        self.make(
            name,
            &[
                "-subj",
                subject,
                "-CA",
                crt,
                "-CAkey",
                key,
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-addext",
                "subjectAltName=DNS:localhost",
            ],
        );
    }

    fn make(&self, name: &str, options: &[&str]) {
        let key = self.path(&format!("{name}.key"));
        let crt = self.path(&format!("{name}.crt"));
        run(command(User::Same, "openssl")
            .args(["req", "-x509", "-days", "2", "-newkey", "ec"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"])
            .args([Path::new("-keyout"), &key, Path::new("-out"), &crt])
            .args(options));
        give(&key);
    }
}
