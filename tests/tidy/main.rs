//! The rules of the house, as tests that read the tree. A rule that no test holds is not a rule.

mod layout;
mod rooms;
mod source;
