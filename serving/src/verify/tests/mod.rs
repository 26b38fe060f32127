//! Verification over stores that are whole, and over damaged ones.

mod bench;
mod damage;
mod kill;
mod rounds;
mod ties;
mod yard;
