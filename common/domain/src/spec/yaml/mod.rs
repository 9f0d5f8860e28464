//! YAML text to a tree that knows where each of its nodes stands.
//!
//! The scalars are those of YAML 1.2's core schema, so `yes` and dates are texts. Size, depth and alias expansion are
//! bounded while the tree is built. The tree knows nothing of specs.

mod build;
mod node;
mod scalar;

pub(super) use build::{Broken, load};
pub(super) use node::{Entry, Layout, Mark, Node, Scalar, Value};
pub(super) use scalar::resolve;
