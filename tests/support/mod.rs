//! Real parts to test on.
