//! Which of the server's requests for a login are answered.
//!
//! The driver answers each. Here `require_auth` is kept as libpq keeps it, and the password is not
//! sent in clear text to whoever asks: only over an encrypted connection, within the host, or where
//! `require_auth` names that way. MD5 and SCRAM go over any connection, as with libpq: with both,
//! who listens or pretends to be the server can do no more than guess passwords.

use std::io;

use super::violation::Violation;
use crate::bounds;
use crate::config::dsn::{AuthMethod, RequireAuth};

/// Why a request of the server's is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The way is none that was allowed.
    #[error("the server asks for {}, and require_auth allows only {allowed}", .asked.says())]
    Method {
        /// What the server asks for.
        asked: AuthMethod,
        /// What it may ask for.
        allowed: RequireAuth,
    },
    /// No proof is asked for.
    #[error(
        "the server did not ask for a login, and require_auth demands it; add none to allow that"
    )]
    Unasked,
    /// Anybody could listen.
    #[error(
        "the server asks for the password in clear text, and the connection is not encrypted; set \
         sslmode=verify-full (or require), or let pg_hba.conf on the server ask for scram-sha-256; \
         require_auth=password allows it anyway"
    )]
    Clear,
    /// Somebody may have broken the encryption to listen.
    #[error(
        "the server asks for the password in clear text, and encryption failed before ({0}); set \
         sslmode=verify-full (or require) and repair what fails, or sslmode=disable with \
         require_auth=password where no encryption is wanted"
    )]
    Downgraded(String),
}

/// Who can read what is sent.
#[derive(Clone, Debug)]
pub(super) enum Channel {
    /// The server alone, or somebody on this host.
    Private,
    /// Anybody on the way.
    Open,
    /// The same, after encryption failed for this reason.
    Downgraded(String),
}

/// A login under way.
#[derive(Debug)]
pub(super) struct Login {
    allowed: Option<RequireAuth>,
    channel: Channel,
    /// Whether the server has asked for a proof, and was given it.
    proven: bool,
}

impl Login {
    pub(super) fn new(allowed: Option<RequireAuth>, channel: Channel) -> Self {
        Self {
            allowed,
            channel,
            proven: false,
        }
    }

    /// Whether the driver may see, and answer, this message of the server.
    pub(super) fn judge(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        if kind != b'R' {
            return Ok(());
        }
        let Some((request, body)) = body.split_first_chunk() else {
            return Err(Violation::NotPostgres.into());
        };
        match u32::from_be_bytes(*request) {
            0 => match &self.allowed {
                Some(allowed) if allowed.demanded && !self.proven => {
                    return Err(AuthError::Unasked.into());
                }
                _ => return Ok(()),
            },
            3 => {
                self.allow(AuthMethod::Password)?;
                self.allow_clear()?;
                self.proven = true;
            }
            5 => {
                self.allow(AuthMethod::Md5)?;
                self.proven = true;
            }
            7 | 8 => self.allow(AuthMethod::Gss)?,
            9 => self.allow(AuthMethod::Sspi)?,
            10 => {
                let mut mechanisms = body.split(|byte| *byte == 0);
                let scram = mechanisms.any(|mechanism| mechanism.starts_with(b"SCRAM-SHA-256"));
                self.allow(match scram {
                    true => AuthMethod::Scram,
                    false => AuthMethod::Oauth,
                })?;
            }
            11 => return few_iterations(body),
            12 => self.proven = true,
            _ => {}
        }
        Ok(())
    }

    fn allow(&self, asked: AuthMethod) -> Result<(), AuthError> {
        match &self.allowed {
            Some(allowed) if !allowed.methods.contains(&asked) => Err(AuthError::Method {
                asked,
                allowed: allowed.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn allow_clear(&self) -> Result<(), AuthError> {
        let named = self
            .allowed
            .as_ref()
            .is_some_and(|allowed| allowed.names_password);
        match &self.channel {
            Channel::Private => Ok(()),
            Channel::Open if named => Ok(()),
            Channel::Open => Err(AuthError::Clear),
            Channel::Downgraded(reason) => Err(AuthError::Downgraded(reason.clone())),
        }
    }
}

impl From<AuthError> for io::Error {
    fn from(error: AuthError) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, error)
    }
}

/// The iterations are ours to make, all of them before anything else goes on.
fn few_iterations(challenge: &[u8]) -> io::Result<()> {
    let mut attributes = challenge.split(|byte| *byte == b',');
    let iterations = attributes.find_map(|attribute| attribute.strip_prefix(b"i="));
    let iterations = iterations.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    match iterations {
        Some(iterations) if iterations > u64::from(bounds::SCRAM_ITERATIONS) => {
            Err(Violation::Iterations(iterations).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &[u8] = &[0, 0, 0, 0];
    const CLEAR: &[u8] = &[0, 0, 0, 3];
    const MD5: &[u8] = &[0, 0, 0, 5, 1, 2, 3, 4];
    const GSS: &[u8] = &[0, 0, 0, 7];
    const SCRAM: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    const OAUTH: &[u8] = b"\0\0\0\x0aOAUTHBEARER\0\0";
    const FINAL: &[u8] = b"\0\0\0\x0cv=x";

    /// As libpq's tests of require_auth have it.
    #[test]
    fn the_server_may_ask_for_what_is_allowed() {
        for (allowed, requests, passes) in [
            ("", vec![OK], true),
            ("", vec![MD5, OK], true),
            ("", vec![CLEAR, OK], true),
            ("scram-sha-256", vec![SCRAM, FINAL, OK], true),
            ("scram-sha-256", vec![MD5], false),
            ("scram-sha-256", vec![CLEAR], false),
            ("scram-sha-256", vec![OK], false),
            // A server that leaves the exchange in the middle has proven nothing.
            ("scram-sha-256", vec![SCRAM, OK], false),
            ("scram-sha-256,none", vec![OK], true),
            ("password,md5", vec![MD5, OK], true),
            ("password,md5", vec![SCRAM], false),
            ("none", vec![OK], true),
            ("none", vec![CLEAR], false),
            ("!none", vec![OK], false),
            ("!none", vec![MD5, OK], true),
            ("!md5", vec![MD5], false),
            ("!md5", vec![OK], true),
            ("!password,!md5", vec![SCRAM, FINAL, OK], true),
            ("!password,!none", vec![OK], false),
            ("md5", vec![GSS], false),
            ("scram-sha-256", vec![OAUTH], false),
            ("!oauth", vec![OAUTH], false),
        ] {
            let verdict = judge(allowed, Channel::Private, &requests);
            assert_eq!(
                verdict.is_ok(),
                passes,
                "{allowed:?} {requests:?} {verdict:?}"
            );
        }
    }

    #[test]
    fn the_password_goes_in_clear_where_nobody_listens_or_the_way_is_named() {
        let downgraded = || Channel::Downgraded("the handshake failed".to_owned());
        for (allowed, channel, passes) in [
            ("", Channel::Private, true),
            ("", Channel::Open, false),
            ("!md5", Channel::Open, false),
            ("password", Channel::Open, true),
            ("scram-sha-256,password", Channel::Open, true),
            ("", downgraded(), false),
            ("password", downgraded(), false),
        ] {
            let verdict = judge(allowed, channel.clone(), &[CLEAR, OK]);
            assert_eq!(
                verdict.is_ok(),
                passes,
                "{allowed:?} {channel:?} {verdict:?}"
            );
            let hashed = judge("", channel, &[MD5, OK]);
            assert!(hashed.is_ok(), "{hashed:?}");
        }
    }

    #[test]
    fn work_without_end_is_not_begun() {
        let challenge = |count: &str| {
            let body = format!("\0\0\0\x0br=abc,s=def,i={count}");
            judge("", Channel::Open, &[SCRAM, body.as_bytes()]).is_ok()
        };
        assert!(challenge("4096"));
        assert!(challenge("100000"));
        assert!(!challenge("100001"));
        assert!(!challenge("4294967295"));
    }

    fn judge(allowed: &str, channel: Channel, requests: &[&[u8]]) -> io::Result<()> {
        let allowed = (!allowed.is_empty()).then(|| allowed.parse().ok().unwrap());
        let mut login = Login::new(allowed, channel);
        requests
            .iter()
            .try_for_each(|request| login.judge(b'R', request))
    }
}
