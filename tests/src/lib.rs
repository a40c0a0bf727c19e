//! Cross-crate tests of the workspace: everything is in `tests/it`, and nothing is to be imported from here.
