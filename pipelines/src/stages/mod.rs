//! The stages: one file each.

pub mod answer;
pub mod decide;
pub mod filter;
pub mod fragment;
pub mod macswap;
pub mod nat;
pub mod owner;
pub mod parse;
pub mod partial;
pub mod patch;
pub mod police;
pub mod route;
pub mod shape;
pub mod track;

#[cfg(test)]
mod fixture;
