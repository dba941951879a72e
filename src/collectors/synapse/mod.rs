//! Synapse's own tables.

super::collectors! {}
