//! The stages: one file each.

pub mod decide;
pub mod macswap;
pub mod parse;
pub mod partial;
pub mod patch;
pub mod police;
pub mod route;
pub mod shape;

#[cfg(test)]
mod fixture;
