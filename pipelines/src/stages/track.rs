//! `track`: which connection a packet belongs to.

pub mod segment;
pub mod states;
pub mod tcp;
pub mod timeouts;
pub mod window;
