//! The checkout through a whole application, on both engines, with a provider that misbehaves in every way that it knows.

mod ends;
mod fulfilment;
mod rushes;
mod steps;
mod stories;
mod world;
