//! What the byte budget counts with, against what the operating system says.

mod accounting;
mod child;
