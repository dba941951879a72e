//! What each key of a connection string means.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::auth::Wrong;
use super::{ChannelBinding, Dsn, File, Host, Password, Roots, SslMode, TlsVersion, parameters};

/// A key of libpq.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// The environment variable that gives the default.
    pub(super) variable: Option<&'static str>,
    /// Takes a value that is not empty.
    pub(super) set: fn(&mut Dsn, &str) -> Result<(), Refusal>,
}

/// Why a value is not taken.
pub(super) enum Refusal {
    /// It is none of what the key can have.
    Expected(&'static str),
    /// libpq would take it.
    Unsupported(&'static str),
}

/// Every key that libpq has, up to PostgreSQL 18, and `sslinline` of lib/pq.
pub(super) const KEYS: &[Key] = &[
    // Where.
    key("host", "PGHOST", |dsn, value| {
        dsn.host = match value {
            _ if value.contains(',') => return Err(Refusal::Unsupported(SEVERAL_HOSTS)),
            _ if value.starts_with('@') => {
                return Err(Refusal::Unsupported(
                    "abstract sockets are not supported yet; name the socket's directory or a host",
                ));
            }
            _ if value.starts_with('/') => Host::Socket(value.into()),
            _ => Host::Name(value.to_owned()),
        };
        Ok(())
    }),
    key("hostaddr", "PGHOSTADDR", |dsn, value| {
        if value.contains(',') {
            return Err(Refusal::Unsupported(SEVERAL_HOSTS));
        }
        dsn.hostaddr = Some(number(value, "an IPv4 or IPv6 address")?);
        Ok(())
    }),
    key("port", "PGPORT", |dsn, value| {
        if value.contains(',') {
            return Err(Refusal::Unsupported(SEVERAL_HOSTS));
        }
        const PORT: &str = "a number from 1 to 65535";
        dsn.port = number(value, PORT)?;
        if dsn.port == 0 {
            return Err(Refusal::Expected(PORT));
        }
        Ok(())
    }),
    key("service", "PGSERVICE", |_, _| {
        Err(Refusal::Unsupported(NO_SERVICE))
    }),
    only_here("servicefile", |_, _| Err(Refusal::Unsupported(NO_SERVICE))),
    key(
        "target_session_attrs",
        "PGTARGETSESSIONATTRS",
        |dsn, value| match value {
            "any" => Ok(()),
            "read-write" | "read-only" | "primary" | "standby" | "prefer-standby" => {
                dsn.passed_over(
                    "target_session_attrs",
                    "the server is monitored, primary or standby",
                );
                Ok(())
            }
            _ => Err(Refusal::Expected(
                "any, read-write, read-only, primary, standby or prefer-standby",
            )),
        },
    ),
    key(
        "load_balance_hosts",
        "PGLOADBALANCEHOSTS",
        |dsn, value| match value {
            "disable" => Ok(()),
            "random" => {
                dsn.passed_over("load_balance_hosts", "one server is monitored");
                Ok(())
            }
            _ => Err(Refusal::Expected("disable or random")),
        },
    ),
    // Who.
    key("user", "PGUSER", |dsn, value| {
        dsn.user = value.to_owned();
        Ok(())
    }),
    key("dbname", "PGDATABASE", |dsn, value| {
        dsn.database = value.to_owned();
        Ok(())
    }),
    key("password", "PGPASSWORD", |dsn, value| {
        dsn.password = Some(Password::Given(value.into()));
        Ok(())
    }),
    key("passfile", "PGPASSFILE", |dsn, value| {
        dsn.passfile = Some(value.into());
        Ok(())
    }),
    key("channel_binding", "PGCHANNELBINDING", |dsn, value| {
        dsn.channel_binding = match value {
            "disable" => ChannelBinding::Disable,
            "prefer" => ChannelBinding::Prefer,
            "require" => ChannelBinding::Require,
            _ => return Err(Refusal::Expected("disable, prefer or require")),
        };
        Ok(())
    }),
    key("require_auth", "PGREQUIREAUTH", |dsn, value| {
        let list = value.parse().map_err(|wrong| match wrong {
            Wrong::List => Refusal::Expected(
                "a list of password, md5, gss, sspi, scram-sha-256, oauth and none, each once and \
                 either all or none with a \"!\" before it",
            ),
            Wrong::Unspoken => Refusal::Unsupported(NO_OTHER_LOGIN),
        })?;
        dsn.require_auth = Some(list);
        Ok(())
    }),
    key("requirepeer", "PGREQUIREPEER", |_, _| {
        Err(Refusal::Unsupported(
            "the owner of a socket is not checked yet; remove the key",
        ))
    }),
    only_here("scram_client_key", |_, _| {
        Err(Refusal::Unsupported(NO_OTHER_LOGIN))
    }),
    only_here("scram_server_key", |_, _| {
        Err(Refusal::Unsupported(NO_OTHER_LOGIN))
    }),
    only_here("oauth_issuer", |_, _| {
        Err(Refusal::Unsupported(NO_OTHER_LOGIN))
    }),
    only_here("oauth_client_id", |_, _| {
        Err(Refusal::Unsupported(NO_OTHER_LOGIN))
    }),
    only_here("oauth_client_secret", |_, _| {
        Err(Refusal::Unsupported(NO_OTHER_LOGIN))
    }),
    only_here("oauth_scope", |_, _| {
        Err(Refusal::Unsupported(NO_OTHER_LOGIN))
    }),
    // Encryption.
    key("sslmode", "PGSSLMODE", |dsn, value| {
        dsn.tls.mode = match value {
            "disable" => SslMode::Disable,
            "allow" => SslMode::Allow,
            "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            _ => {
                return Err(Refusal::Expected(
                    "disable, allow, prefer, require, verify-ca or verify-full",
                ));
            }
        };
        Ok(())
    }),
    key(
        "sslnegotiation",
        "PGSSLNEGOTIATION",
        |dsn, value| match value {
            "postgres" => Ok(()),
            "direct" => {
                dsn.passed_over(
                    "sslnegotiation",
                    "TLS is asked for as by sslnegotiation=postgres",
                );
                Ok(())
            }
            _ => Err(Refusal::Expected("postgres or direct")),
        },
    ),
    key("sslrootcert", "PGSSLROOTCERT", |dsn, value| {
        dsn.tls.roots = match value {
            "system" => Roots::System,
            path => Roots::File(file(path)?),
        };
        Ok(())
    }),
    key("sslcert", "PGSSLCERT", |dsn, value| {
        dsn.tls.certificate = Some(file(value)?);
        Ok(())
    }),
    key("sslkey", "PGSSLKEY", |dsn, value| {
        let file = file(value)?;
        if value.contains(':') {
            return Err(Refusal::Unsupported(
                "keys are read from files, not through an engine; write the path of a file",
            ));
        }
        dsn.tls.key = Some(file);
        Ok(())
    }),
    only_here("sslinline", |_, value| {
        match value.to_ascii_lowercase().as_str() {
            "0" | "f" | "false" | "no" | "off" => Ok(()),
            _ => Err(Refusal::Expected(
                "false: certificates and keys are read from files; name these in sslcert, sslkey \
                 and sslrootcert",
            )),
        }
    }),
    only_here("sslpassword", |_, _| {
        Err(Refusal::Unsupported(
            "encrypted keys cannot be read; decrypt the key and keep the file readable by its \
             owner only",
        ))
    }),
    key("sslcertmode", "PGSSLCERTMODE", |_, value| {
        one_of(
            value,
            &["allow"],
            "only allow is supported yet; remove the key",
        )
    }),
    key("sslcrl", "PGSSLCRL", |_, _| {
        Err(Refusal::Unsupported(NO_REVOCATION))
    }),
    key("sslcrldir", "PGSSLCRLDIR", |_, _| {
        Err(Refusal::Unsupported(NO_REVOCATION))
    }),
    key("sslsni", "PGSSLSNI", |dsn, value| {
        dsn.tls.sni = switch(value)?;
        Ok(())
    }),
    // TLS is never compressed, by libpq neither.
    only_here("sslcompression", |_, _| Ok(())),
    key(
        "ssl_min_protocol_version",
        "PGSSLMINPROTOCOLVERSION",
        |dsn, value| {
            // Nothing older than 1.2 is ever spoken, so an older minimum is always kept.
            dsn.tls.oldest = match tls_version(value)? {
                Some(version) => version,
                None => TlsVersion::V1_2,
            };
            Ok(())
        },
    ),
    key(
        "ssl_max_protocol_version",
        "PGSSLMAXPROTOCOLVERSION",
        |dsn, value| {
            dsn.tls.newest = tls_version(value)?.ok_or(Refusal::Unsupported(
                "TLS versions older than TLSv1.2 are not supported; write TLSv1.2 or TLSv1.3",
            ))?;
            Ok(())
        },
    ),
    only_here("sslkeylogfile", |_, _| {
        Err(Refusal::Unsupported(
            "TLS secrets are never written to a file; remove the key",
        ))
    }),
    key("gssencmode", "PGGSSENCMODE", |_, value| {
        one_of(
            value,
            &["disable", "prefer"],
            "GSSAPI is not supported; write disable or prefer",
        )
    }),
    // The connection.
    key("connect_timeout", "PGCONNECT_TIMEOUT", |dsn, value| {
        let seconds: i32 = number(value, "a number of seconds")?;
        // For libpq, 0 or less means to wait without end; a scrape never does, and keeps its default.
        if let Ok(seconds @ 1..) = u64::try_from(seconds) {
            dsn.connect_timeout = Duration::from_secs(seconds);
        }
        Ok(())
    }),
    only_here("keepalives", |dsn, value| {
        dsn.keepalives.on = switch(value)?;
        Ok(())
    }),
    only_here("keepalives_idle", |dsn, value| {
        dsn.keepalives.idle = positive(value, "a number of seconds")?.map(Duration::from_secs);
        Ok(())
    }),
    only_here("keepalives_interval", |dsn, value| {
        dsn.keepalives.interval = positive(value, "a number of seconds")?.map(Duration::from_secs);
        Ok(())
    }),
    only_here("keepalives_count", |dsn, value| {
        dsn.keepalives.probes =
            positive(value, "a number of probes")?.map(|probes| probes.min(127) as u32);
        Ok(())
    }),
    only_here("tcp_user_timeout", |dsn, value| {
        dsn.keepalives.user_timeout =
            positive(value, "a number of milliseconds")?.map(Duration::from_millis);
        Ok(())
    }),
    key(
        "min_protocol_version",
        "PGMINPROTOCOLVERSION",
        |dsn, value| match value {
            "3.0" => Ok(()),
            "3.2" | "latest" => {
                dsn.passed_over("min_protocol_version", "protocol 3.0 is used");
                Ok(())
            }
            _ => Err(Refusal::Expected("3.0, 3.2 or latest")),
        },
    ),
    key(
        "max_protocol_version",
        "PGMAXPROTOCOLVERSION",
        |_, value| match value {
            "3.0" | "3.2" | "latest" => Ok(()),
            _ => Err(Refusal::Expected("3.0, 3.2 or latest")),
        },
    ),
    // The session.
    key("application_name", "PGAPPNAME", |dsn, value| {
        dsn.application_name = value.to_owned();
        Ok(())
    }),
    only_here("fallback_application_name", |dsn, value| {
        dsn.fallback_application_name = Some(value.to_owned());
        Ok(())
    }),
    // PGOPTIONS is meant for psql: settings for the session would break connections by PgBouncer.
    only_here("options", |dsn, value| {
        dsn.options = Some(value.to_owned());
        Ok(())
    }),
    only_here("client_encoding", |dsn, value| {
        let plain = value.to_ascii_lowercase().replace('-', "");
        if !["utf8", "unicode", "auto"].contains(&plain.as_str()) {
            dsn.passed_over(
                "client_encoding",
                "everything is read in UTF-8, as metrics are written",
            );
        }
        Ok(())
    }),
    only_here("replication", |_, value| match value {
        "false" | "off" | "no" | "0" => Ok(()),
        _ => Err(Refusal::Unsupported(
            "queries do not run in a replication session; remove the key",
        )),
    }),
];

const SEVERAL_HOSTS: &str =
    "several hosts are not supported yet; name one server, or a host name that resolves to one";
const NO_REVOCATION: &str = "revocation lists are not read, so a revoked certificate would pass; \
                             remove the key where that is acceptable";
const NO_OTHER_LOGIN: &str = "the login is by password or client certificate; remove the key";
const NO_SERVICE: &str = "service files are not supported yet; remove it, and set host, port, \
                          dbname and user (PGHOST, PGPORT, PGDATABASE and PGUSER)";

/// The key of this name. lib/pq knows `dbname` by the name that the protocol has for it, too.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    let name = match name {
        "database" => "dbname",
        name => name,
    };
    KEYS.iter().find(|key| key.name == name)
}

/// The known key or parameter that a wrong one was most likely meant to be.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let keys = KEYS.iter().map(|key| key.name);
    keys.chain(parameters::all())
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

const fn key(
    name: &'static str,
    variable: &'static str,
    set: fn(&mut Dsn, &str) -> Result<(), Refusal>,
) -> Key {
    Key {
        name,
        variable: Some(variable),
        set,
    }
}

const fn only_here(name: &'static str, set: fn(&mut Dsn, &str) -> Result<(), Refusal>) -> Key {
    Key {
        name,
        variable: None,
        set,
    }
}

fn one_of(value: &str, supported: &[&str], why: &'static str) -> Result<(), Refusal> {
    if supported.contains(&value) {
        Ok(())
    } else {
        Err(Refusal::Unsupported(why))
    }
}

fn number<T: FromStr>(value: &str, expected: &'static str) -> Result<T, Refusal> {
    value
        .trim()
        .parse()
        .map_err(|_| Refusal::Expected(expected))
}

/// A number; as for libpq, 0 or less leaves the value to the operating system.
fn positive(value: &str, expected: &'static str) -> Result<Option<u64>, Refusal> {
    let value: i32 = number(value, expected)?;
    Ok(u64::try_from(value).ok().filter(|value| *value > 0))
}

fn switch(value: &str) -> Result<bool, Refusal> {
    match value.trim() {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(Refusal::Expected("0 or 1")),
    }
}

/// A TLS version, `None` for those too old to be spoken.
fn tls_version(value: &str) -> Result<Option<TlsVersion>, Refusal> {
    match value.to_ascii_lowercase().as_str() {
        "tlsv1" | "tlsv1.0" | "tlsv1.1" => Ok(None),
        "tlsv1.2" => Ok(Some(TlsVersion::V1_2)),
        "tlsv1.3" => Ok(Some(TlsVersion::V1_3)),
        _ => Err(Refusal::Expected("TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3")),
    }
}

/// A path; never what is to stand in the file, since messages show it.
fn file(path: &str) -> Result<File, Refusal> {
    if path.contains("-----BEGIN") {
        return Err(Refusal::Expected(
            "the path of a file; write the certificate or key into one, and remove sslinline",
        ));
    }
    Ok(File {
        path: PathBuf::from(path),
        optional: false,
    })
}
