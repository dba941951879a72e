//! `require_auth`: the ways of the login that the server may ask for, as libpq takes them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A way of the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuthMethod {
    /// The password in clear text.
    Password,
    /// The password, hashed with MD5.
    Md5,
    /// GSSAPI, which is not spoken here.
    Gss,
    /// SSPI, which is not spoken here.
    Sspi,
    /// SCRAM-SHA-256.
    Scram,
    /// OAuth, which is not spoken here.
    Oauth,
}

impl AuthMethod {
    const ALL: [Self; 6] = [
        Self::Password,
        Self::Md5,
        Self::Gss,
        Self::Sspi,
        Self::Scram,
        Self::Oauth,
    ];

    /// Its name in `require_auth`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::Gss => "gss",
            Self::Sspi => "sspi",
            Self::Scram => "scram-sha-256",
            Self::Oauth => "oauth",
        }
    }

    /// What a server asks for that asks for it.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Password => "the password in clear text",
            Self::Md5 => "the password, hashed with MD5",
            Self::Gss => "a login by GSSAPI",
            Self::Sspi => "a login by SSPI",
            Self::Scram => "a login by SCRAM-SHA-256",
            Self::Oauth => "a login by OAuth",
        }
    }

    const fn is_spoken(self) -> bool {
        matches!(self, Self::Password | Self::Md5 | Self::Scram)
    }
}

/// The value of `require_auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequireAuth {
    /// What the server may ask for.
    pub methods: BTreeSet<AuthMethod>,
    /// Whether it has to ask for one of them.
    pub demanded: bool,
    /// Whether the list says `password`, and does not only leave it open.
    pub names_password: bool,
}

/// Why a list is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A word that is not a method, a word twice, or words with and without `!`.
    List,
    /// Nothing of it can be done here.
    Unspoken,
}

impl FromStr for RequireAuth {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let negative = text.starts_with('!');
        let mut words = BTreeSet::new();
        for word in text.split(',') {
            let word = match word.strip_prefix('!') {
                Some(word) if negative => word,
                None if !negative => word,
                _ => return Err(Wrong::List),
            };
            if !words.insert(word) {
                return Err(Wrong::List);
            }
        }
        let unasked = words.remove("none");
        let mut named = BTreeSet::new();
        for word in words {
            let mut all = AuthMethod::ALL.into_iter();
            named.insert(
                all.find(|method| method.name() == word)
                    .ok_or(Wrong::List)?,
            );
        }
        if negative {
            let all = AuthMethod::ALL.into_iter();
            return Ok(Self {
                methods: all.filter(|method| !named.contains(method)).collect(),
                demanded: unasked,
                names_password: false,
            });
        }
        if !unasked && !named.iter().any(|method| method.is_spoken()) {
            return Err(Wrong::Unspoken);
        }
        Ok(Self {
            names_password: named.contains(&AuthMethod::Password),
            methods: named,
            demanded: !unasked,
        })
    }
}

impl fmt::Display for RequireAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = self.methods.iter().map(|method| method.name());
        let none = (!self.demanded).then_some("none");
        f.write_str(&methods.chain(none).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_as_libpq_takes_them() {
        let read = |text: &str| text.parse::<RequireAuth>().map(|list| list.to_string());
        for (text, allowed) in [
            ("scram-sha-256", "scram-sha-256"),
            ("md5,password", "password, md5"),
            ("none", "none"),
            ("scram-sha-256,none", "scram-sha-256, none"),
            ("!password,!md5,!gss,!sspi,!oauth", "scram-sha-256, none"),
            ("!none", "password, md5, gss, sspi, scram-sha-256, oauth"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(allowed), "{text}");
        }
        for text in [
            "",
            "scram",
            "md5,md5",
            "!md5,!md5",
            "md5,!password",
            "!md5,password",
            "md5,",
            "MD5",
        ] {
            assert_eq!(read(text), Err(Wrong::List), "{text}");
        }
        for text in ["gss", "oauth", "gss,sspi"] {
            assert_eq!(read(text), Err(Wrong::Unspoken), "{text}");
        }
    }
}
