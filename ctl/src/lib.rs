//! Protocol and client of llfs.
