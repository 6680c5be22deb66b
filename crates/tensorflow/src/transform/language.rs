//! The language in which transforms are requested: `fold_constants(ignore_errors=true) fold_batch_norms`.
//!
//! A transform is a name, and in brackets its parameters, `name=value`, separated by commas or blanks. A value is bare
//! or in double quotes, in which a backslash keeps the next character from ending it; both stay as they are written.

use crate::error::TensorflowError;
use quantize_document::Location;

/// A transform as it is requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Name of the transform.
    pub name: String,
    /// Its parameters in order; several may have the same name.
    pub parameters: Vec<Parameter>,
    /// Character of the request at which it begins, counted from 1.
    pub position: usize,
}

/// A parameter of a transform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value, without quotes.
    pub value: String,
    /// Character of the request at which it begins, counted from 1.
    pub position: usize,
}

/// Reads a request.
///
/// # Errors
/// What is found where something else is expected, with its place; or that no transform is requested.
pub fn parse(request: &str) -> Result<Vec<Call>, TensorflowError> {
    let mut scanner = Scanner { text: request.chars().collect(), at: 0 };
    let mut calls = Vec::new();
    scanner.skip_blanks();
    while !scanner.at_end() {
        calls.push(scanner.call()?);
        scanner.skip_blanks();
    }
    if calls.is_empty() {
        return Err(TensorflowError::invalid(Location::default(), "You must specify at least one transform."));
    }
    Ok(calls)
}

/// The error that something is wrong with a request at `position`.
pub(super) fn misplaced(position: usize, cause: impl std::fmt::Display) -> TensorflowError {
    TensorflowError::invalid(Location::default(), format!("transforms, character {position}: {cause}"))
}

struct Scanner {
    text: Vec<char>,
    at: usize,
}

impl Scanner {
    fn at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        self.take(char::is_whitespace);
    }

    /// What stands here, as far as it is wanted.
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(character) = self.peek().filter(|c| wanted(*c)) {
            taken.push(character);
            self.at += 1;
        }
        taken
    }

    fn eat(&mut self, wanted: char) -> bool {
        let here = self.peek() == Some(wanted);
        self.at += usize::from(here);
        here
    }

    fn call(&mut self) -> Result<Call, TensorflowError> {
        let position = self.at + 1;
        let name = self.take(is_name);
        if name.is_empty() {
            return Err(self.looking_for("transform name"));
        }
        let parameters = if self.eat('(') { self.parameters()? } else { Vec::new() };
        Ok(Call { name, parameters, position })
    }

    /// Everything behind an opening bracket, with the closing one.
    fn parameters(&mut self) -> Result<Vec<Parameter>, TensorflowError> {
        let mut parameters = Vec::new();
        loop {
            self.skip_blanks();
            self.eat(',');
            self.skip_blanks();
            if self.eat(')') {
                return Ok(parameters);
            }
            let position = self.at + 1;
            let name = self.take(is_name);
            if name.is_empty() {
                return Err(self.looking_for("parameter name"));
            }
            if !self.eat('=') {
                return Err(self.looking_for("="));
            }
            parameters.push(Parameter { name, value: self.value()?, position });
        }
    }

    fn value(&mut self) -> Result<String, TensorflowError> {
        if !self.eat('"') {
            let value = self.take(|c| is_name(c) || matches!(c, '.' | '/' | '-' | '+' | '*' | ':' | '^'));
            // What quotes the original skips over when they are left behind a bare value.
            self.take(|c| matches!(c, '"' | '\''));
            return Ok(value);
        }
        let mut value = String::new();
        while let Some(character) = self.peek() {
            self.at += 1;
            match character {
                '"' => return Ok(value),
                '\\' => {
                    value.push(character);
                    value.extend(self.peek());
                    self.at += 1;
                }
                _ => value.push(character),
            }
        }
        Err(self.looking_for("\""))
    }

    fn looking_for(&self, what: &str) -> TensorflowError {
        let rest: String = self.text.iter().skip(self.at).take(20).collect();
        let found = if rest.is_empty() { "the end".to_owned() } else { rest };
        misplaced(self.at + 1, format!("Looking for {what}, but found {found}"))
    }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Parameters by type. Each may be given once unless it says otherwise.
impl Call {
    /// All values of a parameter, in order.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.parameters.iter().filter(|p| p.name == name).map(|p| p.value.as_str()).collect()
    }

    fn one(&self, name: &str) -> Result<Option<&Parameter>, TensorflowError> {
        let mut found = self.parameters.iter().filter(|p| p.name == name);
        let first = found.next();
        match found.count() {
            0 => Ok(first),
            more => {
                let cause = format!("Expected a single '{name}' parameter, but found {} occurrences", more + 1);
                Err(misplaced(self.position, format!("{}: {cause}", self.name)))
            }
        }
    }

    /// A text, if it is given.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, TensorflowError> {
        Ok(self.one(name)?.map(|parameter| parameter.value.as_str()))
    }

    /// A text that has to be given.
    pub(super) fn needed(&self, name: &str) -> Result<&str, TensorflowError> {
        let missing = || misplaced(self.position, format!("{} needs the parameter `{name}`", self.name));
        self.text(name)?.ok_or_else(missing)
    }

    /// A number, or `default`.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, TensorflowError> {
        let Some(parameter) = self.one(name)? else { return Ok(default) };
        let refused = || misplaced(parameter.position, format!("`{}` is no number for `{name}`", parameter.value));
        parameter.value.parse().map_err(|_| refused())
    }

    /// A truth value, or `default`.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, TensorflowError> {
        let Some(parameter) = self.one(name)? else { return Ok(default) };
        match parameter.value.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(misplaced(parameter.position, format!("`{other}` is neither true nor false for `{name}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(request: &str) -> Vec<(String, Vec<(String, String)>)> {
        let pairs = |call: Call| call.parameters.into_iter().map(|p| (p.name, p.value)).collect();
        parse(request).unwrap().into_iter().map(|call| (call.name.clone(), pairs(call))).collect()
    }

    #[test]
    fn requests_of_the_manual_are_read() {
        let request = r#"strip_unused_nodes remove_nodes(op=Identity, op=CheckNumerics)fold_constants(ignore_errors=true)
            insert_logging(op=RequantizationRange show_name=true, message="__requant_min_max:" )"#;
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Vec<_>>();
        assert_eq!(
            spelled(request),
            [
                ("strip_unused_nodes".into(), vec![]),
                ("remove_nodes".into(), own(&[("op", "Identity"), ("op", "CheckNumerics")])),
                ("fold_constants".into(), own(&[("ignore_errors", "true")])),
                (
                    "insert_logging".into(),
                    own(&[("op", "RequantizationRange"), ("show_name", "true"), ("message", "__requant_min_max:")])
                ),
            ]
        );
        assert_eq!(spelled(r#"a(x="1,2\" )", y=-0.5)"#), [("a".into(), own(&[("x", "1,2\\\" )"), ("y", "-0.5")]))]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let cases = [
            ("", "You must specify at least one transform."),
            ("fold(", "transforms, character 6: Looking for parameter name, but found the end"),
            ("a b(op:x)", "transforms, character 7: Looking for =, but found :x)"),
            ("a, b", "transforms, character 2: Looking for transform name, but found , b"),
            ("a(x=\"y", "transforms, character 7: Looking for \", but found the end"),
        ];
        for (request, expected) in cases {
            assert_eq!(parse(request).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn parameters_have_types() {
        let call = &parse("f(n=3, n=4, t=TRUE, b=maybe)").unwrap()[0];
        assert!(call.flag("t", false).unwrap());
        assert_eq!(call.number("m", 7).unwrap(), 7);
        let errors =
            [call.number("n", 0).unwrap_err(), call.flag("b", true).unwrap_err(), call.needed("x").unwrap_err()];
        assert_eq!(
            errors.map(|error| error.to_string()),
            [
                "transforms, character 1: f: Expected a single 'n' parameter, but found 2 occurrences",
                "transforms, character 21: `maybe` is neither true nor false for `b`",
                "transforms, character 1: f needs the parameter `x`",
            ]
        );
    }
}
