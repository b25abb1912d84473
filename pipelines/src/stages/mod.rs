//! The stages: one file each.

pub mod answer;
pub mod balance;
pub mod decap;
pub mod decide;
pub mod encap;
pub mod filter;
mod found;
pub mod fragment;
pub mod inspect;
pub mod macswap;
pub mod mirror;
pub mod nat;
pub mod owner;
pub mod parse;
pub mod partial;
pub mod patch;
pub mod police;
pub mod reassemble;
pub mod route;
pub mod shape;
pub mod track;
pub mod tunnel;
pub mod vlan;
pub mod wireguard;

#[cfg(test)]
mod fixture;
