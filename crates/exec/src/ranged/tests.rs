//! Tests of operators on codes whose ranges travel with them.
