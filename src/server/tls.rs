//! Encryption of a connection, as libpq's `sslmode` asks for it.
//!
//! | mode | the server's certificate |
//! |---|---|
//! | `allow`, `prefer`, `require` | anyone's; one of a trusted authority where `sslrootcert` is there |
//! | `verify-ca` | of a trusted authority |
//! | `verify-full` | of a trusted authority, and for the name that was asked for |
//!
//! Certificates and keys are read again at every connect, since they rotate.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::dsn::{File, Roots, SslMode, Tls, TlsVersion};

/// Why no connection can be encrypted. The server was not asked.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The operating system does not let us.
    #[error("the file {} ({key}) cannot be read: {reason}", .path.display())]
    Unreadable {
        /// The key of the connection string.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// Something else than what the key asks for.
    #[error("the file {} ({key}) holds no {wanted} in PEM form", .path.display())]
    Content {
        /// The key of the connection string.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A private key that is not private.
    #[error(
        "the private key {} (sslkey) can be read or written by others; make it readable by its \
         owner only (chmod 0600), or by root and a group (chmod 0640) where root owns it",
        .0.display()
    )]
    NotPrivate(PathBuf),
    /// Nobody to trust.
    #[error(
        "sslmode={mode} needs an authority to trust: name the file of its certificate in \
         sslrootcert, or write sslrootcert=system for those of the operating system{}",
        missing(.path)
    )]
    NoRoots {
        /// The mode.
        mode: &'static str,
        /// The file of the home directory that is not there.
        path: Option<PathBuf>,
    },
    /// No `ca-certificates` here.
    #[error(
        "sslrootcert=system finds no certificates on this system; install ca-certificates, or name \
         a file in sslrootcert"
    )]
    NoSystemRoots,
    /// Certificates and key are read, and cannot be used.
    #[error("the certificates of sslrootcert, sslcert and sslkey cannot be used: {0}")]
    Unusable(String),
}

/// What encrypts a connection as the settings say, with files as they are at this moment.
pub(super) fn connector(tls: &Tls) -> Result<MakeRustlsConnect, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let versions: Vec<_> = [
        (TlsVersion::V1_2, &version::TLS12),
        (TlsVersion::V1_3, &version::TLS13),
    ]
    .into_iter()
    .filter(|(version, _)| (tls.oldest..=tls.newest).contains(version))
    .map(|(_, version)| version)
    .collect();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier {
            algorithms: provider.signature_verification_algorithms,
            trust: trust(tls, &provider)?,
        }));
    let mut config = match identity(tls)? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(unusable)?,
    };
    config.enable_sni = tls.sni;
    Ok(MakeRustlsConnect::new(config))
}

fn trust(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Option<Trust>, TlsError> {
    let certificates = match &tls.roots {
        _ if tls.mode == SslMode::Disable => None,
        Roots::None => None,
        Roots::System => Some(rustls_native_certs::load_native_certs().certs),
        Roots::File(file) => read(file, "sslrootcert")?
            .map(|text| certificates(&text, file, "sslrootcert"))
            .transpose()?,
    };
    let Some(certificates) = certificates else {
        return match tls.mode {
            SslMode::VerifyCa | SslMode::VerifyFull => Err(TlsError::NoRoots {
                mode: tls.mode.name(),
                path: match &tls.roots {
                    Roots::File(file) => Some(file.path.clone()),
                    Roots::None | Roots::System => None,
                },
            }),
            _ => Ok(None),
        };
    };
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 && tls.roots == Roots::System {
        return Err(TlsError::NoSystemRoots);
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(unusable)?;
    Ok(Some(Trust {
        chain,
        certificates,
        any_name: tls.mode != SslMode::VerifyFull,
    }))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The client certificate and its key, where there is one.
fn identity(tls: &Tls) -> Result<Option<Identity>, TlsError> {
    let (Some(file), Some(key)) = (&tls.certificate, &tls.key) else {
        return Ok(None);
    };
    if tls.mode == SslMode::Disable {
        return Ok(None);
    }
    let Some(text) = read(file, "sslcert")? else {
        return Ok(None);
    };
    let chain = certificates(&text, file, "sslcert")?;
    Ok(Some((chain, private_key(key)?)))
}

fn private_key(file: &File) -> Result<PrivateKeyDer<'static>, TlsError> {
    let unreadable = |reason| TlsError::Unreadable {
        key: "sslkey",
        path: file.path.clone(),
        reason,
    };
    let metadata = fs::metadata(&file.path).map_err(unreadable)?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.is_file() && metadata.mode() & forbidden != 0 {
        return Err(TlsError::NotPrivate(file.path.clone()));
    }
    let text = fs::read(&file.path).map_err(unreadable)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::Content {
        key: "sslkey",
        path: file.path.clone(),
        wanted: "private key without a passphrase (PKCS#8, PKCS#1 or SEC1)",
    })
}

/// The file's text; none where it is a default that is not there.
fn read(file: &File, key: &'static str) -> Result<Option<Vec<u8>>, TlsError> {
    match fs::read(&file.path) {
        Ok(text) => Ok(Some(text)),
        Err(reason) if file.optional && reason.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(TlsError::Unreadable {
            key,
            path: file.path.clone(),
            reason,
        }),
    }
}

fn certificates(
    text: &[u8],
    file: &File,
    key: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    match CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::Content {
            key,
            path: file.path.clone(),
            wanted: "certificate",
        }),
    }
}

fn unusable(error: impl std::fmt::Display) -> TlsError {
    TlsError::Unusable(error.to_string())
}

fn missing(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(String::new, |path| {
        format!(" (there is no {} either)", path.display())
    })
}

/// Judges the server's certificate.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    /// Without it, everyone is believed.
    trust: Option<Trust>,
}

#[derive(Debug)]
struct Trust {
    chain: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
    any_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext, Other};

        let Some(trust) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        match trust
            .chain
            .verify_server_cert(certificate, intermediates, name, ocsp, now)
        {
            Err(rustls::Error::InvalidCertificate(
                NotValidForName | NotValidForNameContext { .. },
            )) if trust.any_name => Ok(ServerCertVerified::assertion()),
            // The self-signed certificate of PostgreSQL's manual is an authority's, and rustls
            // wants none of these from a server. The date is found good before that is found out.
            Err(rustls::Error::InvalidCertificate(Other(_)))
                if trust.certificates.contains(certificate) =>
            {
                if !trust.any_name {
                    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// As libpq: its owner only, or root's group too.
    #[test]
    fn a_private_key_is_private() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let key = File {
            path: file.path().to_owned(),
            optional: false,
        };
        let owned_by_root = fs::metadata(&key.path).unwrap().uid() == 0;
        for (mode, taken) in [
            (0o600, true),
            (0o400, true),
            (0o640, owned_by_root),
            (0o660, false),
            (0o644, false),
            (0o604, false),
        ] {
            fs::set_permissions(&key.path, PermissionsExt::from_mode(mode)).unwrap();
            let refused = matches!(private_key(&key), Err(TlsError::NotPrivate(_)));
            assert_eq!(refused, !taken, "{mode:o}");
        }
    }
}
