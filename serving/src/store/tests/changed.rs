//! Stored rows follow changed contracts.
