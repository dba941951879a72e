//! Server versions and ranges of them.

use std::fmt;

/// A server's version as `server_version_num` gives it: 180004 is 18.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// The major version: 18.
    pub const fn major(self) -> u32 {
        self.0 / 10_000
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10_000, self.0 % 10_000)
    }
}

/// A half-open range of major versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    from: u32,
    to: u32,
}

/// Every supported version, and newer ones.
pub const ALL: Versions = Versions {
    from: 0,
    to: u32::MAX,
};

/// This major version and every newer one.
pub const fn since(major: u32) -> Versions {
    Versions {
        from: major,
        to: u32::MAX,
    }
}

/// Every version older than this major one.
pub const fn before(major: u32) -> Versions {
    Versions { from: 0, to: major }
}

/// From the first major version to before the second.
pub const fn between(from: u32, to: u32) -> Versions {
    Versions { from, to }
}

impl Versions {
    /// Whether the version lies in the range.
    pub const fn contains(self, version: Version) -> bool {
        self.from <= version.major() && version.major() < self.to
    }
}

/// `13+`, `13-16`, or nothing for every version.
impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (0, u32::MAX) => Ok(()),
            (0, to) => write!(f, "-{}", to - 1),
            (from, u32::MAX) => write!(f, "{from}+"),
            (from, to) => write!(f, "{from}-{}", to - 1),
        }
    }
}
