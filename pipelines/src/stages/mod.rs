//! The stages: one file each.

pub mod decide;
pub mod filter;
pub mod macswap;
pub mod parse;
pub mod partial;
pub mod patch;
pub mod route;

#[cfg(test)]
mod fixture;
