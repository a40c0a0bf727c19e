//! Integration tests of `cutover-certify` that need no other package. Those that run whole histories, and our engine, are
//! in the package of cross-crate tests.

mod help;
