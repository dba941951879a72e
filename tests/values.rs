//! The numbers: what is served beside what the server itself answers, asked at the same time.

mod sessions;
mod settings;
mod sizes;
mod tables;
mod wal;

/// The oldest and the newest version, where those between are like one of them.
const ENDS: [u32; 2] = [13, 18];
