//! Choices that are spelled as names: finding one in its table and the way back.

use crate::error::CalibError;

/// Finds a named choice in its table.
pub(crate) fn lookup<T: Copy>(what: &'static str, table: &[(T, &str)], name: &str) -> Result<T, CalibError> {
    let found = table.iter().find(|(_, known)| *known == name);
    found.map(|(choice, _)| *choice).ok_or_else(|| {
        let known: Vec<&str> = table.iter().map(|(_, known)| *known).collect();
        CalibError::UnknownName { what, name: name.to_owned(), known: known.join(", ") }
    })
}

/// The name of a choice in its table.
pub(crate) fn name_of<T: Copy + PartialEq>(table: &[(T, &'static str)], choice: T) -> &'static str {
    table.iter().find(|(known, _)| *known == choice).map_or("", |(_, name)| name)
}
