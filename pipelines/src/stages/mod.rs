//! The stages: one file each.

pub mod answer;
pub mod balance;
pub mod decide;
pub mod fragment;
pub mod macswap;
pub mod parse;
pub mod partial;
pub mod patch;
pub mod route;

#[cfg(test)]
mod fixture;
