//! To come.

pub mod connect;
pub mod tls;
