//! The path of one reading through the gateway, on one screen.
