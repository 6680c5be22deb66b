//! From a plan file to the decisions and parameters it prescribes for a graph.

use super::{
    ABSORBED, ActivationEntry, BIAS, ConstantEntry, FORMAT, KEEP, PlanFile, QUANTIZE, ScaledEntry, VERSION, WEIGHT_ONLY,
};
use crate::error::Error;
use base64::prelude::{BASE64_STANDARD, Engine};
use quantize_document::{Limits, SourceFile};
use quantize_ir::quant::storage;
use quantize_ir::{
    ActivationPlan, Blocks, DType, Decision, Graph, NodeId, QuantParams, QuantType, Recipe, Tensor, ValueId,
};
use quantize_numerics::Range;
use quantize_optimize::set_bias;
use quantize_passes::Selection;
use quantize_passes::scaled::{InputLayout, Scaled, computed_by};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A plan file, read but not yet matched with a graph.
#[derive(Debug)]
pub(crate) struct Prescription {
    path: PathBuf,
    file: PlanFile,
}

/// Parameters that a plan file prescribes for the values of a graph.
#[derive(Debug, Default)]
pub(crate) struct Given {
    /// Of activations.
    pub(crate) activations: BTreeMap<ValueId, ActivationPlan>,
    /// Of constants, by node and operand slot; biases have none of their own.
    pub(crate) constants: BTreeMap<(NodeId, usize), QuantParams>,
    /// Codes of weights, where they are not to be the nearest.
    pub(crate) codes: BTreeMap<(NodeId, usize), Arc<Tensor>>,
    /// Biases that take the place of the model's.
    pub(crate) biases: BTreeMap<NodeId, Vec<f32>>,
}

impl Prescription {
    /// Reads a plan file.
    ///
    /// # Errors
    /// If it cannot be read or is no plan of a known version.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let source = SourceFile::read(path, &Limits::default())?;
        Self::parse(path, source.bytes())
    }

    /// Reads the bytes of the plan file `path`.
    ///
    /// # Errors
    /// As [`Prescription::read`].
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let refuse = |place: String, cause: String| Error::Plan {
            path: path.to_owned(),
            place,
            cause,
            cure: Some("write a plan with `--emit-plan FILE` and change numbers and decisions in it".into()),
        };
        let file: PlanFile = serde_json::from_slice(bytes)
            .map_err(|e| refuse(format!("line {}, column {}", e.line(), e.column()), described(&e)))?;
        if file.format != FORMAT {
            return Err(refuse("field `format`".into(), format!("`{}` is not `{FORMAT}`", file.format)));
        }
        if file.version != VERSION {
            let cause = format!("version {} is not known, only {VERSION}", file.version);
            return Err(refuse("field `version`".into(), cause));
        }
        Ok(Self { path: path.to_owned(), file })
    }

    fn refuse(&self, place: String, cause: impl Into<String>, cure: &str) -> Error {
        Error::Plan { path: self.path.clone(), place, cause: cause.into(), cure: Some(cure.to_owned()) }
    }

    /// Nodes of the imported graph that the plan keeps as they are.
    ///
    /// # Errors
    /// If it says different things of nodes with the same name, or something that is no decision.
    pub(crate) fn kept(&self, graph: &Graph) -> Result<BTreeSet<NodeId>, Error> {
        let mut kept: BTreeMap<&str, bool> = BTreeMap::new();
        for entry in &self.file.nodes {
            let place = || format!("node `{}`", entry.node);
            let keeps = match entry.decision.as_str() {
                KEEP => true,
                QUANTIZE | ABSORBED | WEIGHT_ONLY => false,
                other => {
                    let cure = "decisions are `quantize`, `weight-only`, `absorbed` and `keep`";
                    return Err(self.refuse(place(), format!("`{other}` is no decision"), cure));
                }
            };
            if *kept.entry(&entry.node).or_insert(keeps) != keeps {
                let cause = "several nodes have this name, with different decisions";
                return Err(self.refuse(place(), cause, "give the nodes names of their own in the model"));
            }
        }
        let is_kept = |id: &NodeId| kept.get(graph.label(*id).as_str()).copied().unwrap_or(false);
        Ok(graph.nodes().map(|(id, _)| id).filter(is_kept).collect())
    }

    /// The values of the prepared graph whose channels the plan scales.
    ///
    /// # Errors
    /// If there is no such tensor or layer, or factors are not positive numbers, one for each channel.
    pub(crate) fn scaled(&self, graph: &Graph) -> Result<Vec<Scaled>, Error> {
        self.file.scaled_channels.iter().map(|entry| self.scaled_value(graph, entry)).collect()
    }

    fn scaled_value(&self, graph: &Graph, entry: &ScaledEntry) -> Result<Scaled, Error> {
        let cure = "take the entry out to leave its channels as they are";
        let refuse = |cause: String| self.refuse(format!("scaled channels of `{}`", entry.tensor), cause, cure);
        let known = graph.values().find(|(_, v)| v.name == entry.tensor && v.producer().is_some());
        let (value, found) = known.ok_or_else(|| refuse("no node computes this tensor".into()))?;
        if let Some(bad) = entry.factors.iter().find(|t| !t.is_normal() || **t < 0.0) {
            return Err(refuse(format!("{bad} is no factor")));
        }
        let reader = |name: &String| {
            let mut readers = found.consumers().iter().map(|(id, _)| *id).filter(|id| graph.label(*id) == *name);
            let id = readers.next().ok_or_else(|| refuse(format!("no node `{name}` reads it")))?;
            let channels = InputLayout::of(graph, id).map(InputLayout::channels);
            let channels = channels.ok_or_else(|| refuse(format!("`{name}` is no layer with a constant weight")))?;
            match entry.factors.len() {
                n if n == channels => Ok(id),
                n => Err(refuse(format!("{n} factors for {channels} channels that `{name}` reads"))),
            }
        };
        let readers = entry.readers.iter().map(reader).collect::<Result<Vec<_>, _>>()?;
        let producer = computed_by(graph, value);
        let within = |name: &String| {
            let own = producer.filter(|id| graph.label(*id) == *name);
            own.ok_or_else(|| refuse(format!("`{name}` does not compute it")))
        };
        let into = entry.within.as_ref().map(within).transpose()?;
        Ok(Scaled { value, factors: entry.factors.clone(), readers, into })
    }

    /// The parameters for `graph`, of which `selection` is quantized by `recipe`.
    ///
    /// # Errors
    /// If the plan quantizes what cannot be quantized, lacks an entry, or has one that does not fit.
    pub(crate) fn given(&self, graph: &Graph, selection: &Selection, recipe: &dyn Recipe) -> Result<Given, Error> {
        self.check_nodes(graph, selection)?;
        let mut given = Given { activations: self.activations(graph, selection, recipe)?, ..Given::default() };
        for (key, entry) in self.constants(graph, selection) {
            given.constants.insert(key, self.constant(entry)?);
            if let Some(codes) = &entry.codes {
                given.codes.insert(key, Arc::new(self.codes(graph, key, entry, codes)?));
            }
            if let Some(values) = &entry.values {
                given.biases.insert(key.0, values.clone());
            }
        }
        for entry in &self.file.biases {
            let named = |(id, _): &(NodeId, _)| selection.codes_constants(*id) && graph.label(*id) == entry.node;
            let Some((node, _)) = graph.nodes().find(named) else {
                let cure = "leave the entry out to keep the model's bias";
                let place = format!("bias of node `{}`", entry.node);
                return Err(self.refuse(place, "no such node gets codes", cure));
            };
            given.biases.insert(node, entry.values.clone());
        }
        Ok(given)
    }

    /// Puts the biases that the plan has in the place of the model's.
    ///
    /// # Errors
    /// If a node takes no bias, or another number of elements.
    pub(crate) fn set_biases(&self, graph: &mut Graph, given: &Given) -> Result<(), Error> {
        for (node, bias) in &given.biases {
            let place = format!("node `{}`, field `values`", graph.label(*node));
            let set = set_bias(graph, *node, bias.clone());
            set.map_err(|e| self.refuse(place, e.to_string(), "leave out `values` to keep the model's bias"))?;
        }
        Ok(())
    }

    /// Codes of a weight of `graph`.
    fn codes(
        &self,
        graph: &Graph,
        (node, slot): (NodeId, usize),
        entry: &ConstantEntry,
        codes: &str,
    ) -> Result<Tensor, Error> {
        let cure = "leave out `codes` to take those nearest to the weights";
        let refuse = |cause: String| self.refuse(format!("{}, field `codes`", described_constant(entry)), cause, cure);
        let qtype = self.constant(entry)?.qtype();
        let weight = graph.node(node).and_then(|n| graph.value(n.input(slot)?).constant.as_ref());
        let shape = weight.map(|w| w.shape().to_vec()).ok_or_else(|| refuse("the operand is no constant".into()))?;
        let count: usize = shape.iter().product();
        let bytes = BASE64_STANDARD.decode(codes).map_err(|e| refuse(e.to_string()))?;
        let found: Vec<i32> = match storage(qtype) {
            DType::I8 => bytes.iter().map(|b| i32::from(*b as i8)).collect(),
            DType::U8 => bytes.iter().flat_map(|b| [b & 15, b >> 4]).take(count).map(i32::from).collect(),
            DType::I16 => bytes.chunks_exact(2).map(|b| i32::from(i16::from_le_bytes([b[0], b[1]]))).collect(),
            other => return Err(refuse(format!("weights have no codes of type {other}"))),
        };
        if found.len() != count {
            return Err(refuse(format!("{} codes for {count} weights", found.len())));
        }
        if let Some(code) = found.iter().find(|q| !(qtype.qmin()..=qtype.qmax()).contains(q)) {
            return Err(refuse(format!("{code} is no code of type {qtype}")));
        }
        let tensor = match storage(qtype) {
            DType::I8 => Tensor::new(shape, found.iter().map(|q| *q as i8).collect::<Vec<_>>()),
            DType::U8 => Tensor::new(shape, found.iter().map(|q| *q as u8).collect::<Vec<_>>()),
            _ => Tensor::new(shape, found.iter().map(|q| *q as i16).collect::<Vec<_>>()),
        };
        tensor.map_err(|e| refuse(e.to_string()))
    }

    /// Every node the plan quantizes is quantized.
    fn check_nodes(&self, graph: &Graph, selection: &Selection) -> Result<(), Error> {
        let labels: BTreeMap<String, NodeId> = graph.nodes().map(|(id, _)| (graph.label(id), id)).collect();
        for entry in self.file.nodes.iter().filter(|entry| entry.decision != KEEP) {
            let place = || format!("node `{}`", entry.node);
            let Some(id) = labels.get(&entry.node) else {
                let cure = "the plan was made for another model, or other options";
                return Err(self.refuse(place(), "there is no such node after folding", cure));
            };
            if let Some(Decision::Keep(reason)) = selection.decisions.get(id) {
                let cure = "set its decision to `keep`";
                return Err(self.refuse(place(), format!("it cannot be quantized: {reason}"), cure));
            }
        }
        Ok(())
    }

    fn activations(
        &self,
        graph: &Graph,
        selection: &Selection,
        recipe: &dyn Recipe,
    ) -> Result<BTreeMap<ValueId, ActivationPlan>, Error> {
        let entries: BTreeMap<&str, &ActivationEntry> =
            self.file.activations.iter().map(|entry| (entry.tensor.as_str(), entry)).collect();
        let mut given = BTreeMap::new();
        for group in &selection.groups {
            let mut first: Option<QuantParams> = None;
            for value in &group.members {
                let name = graph.value(*value).name.as_str();
                let Some(entry) = entries.get(name) else {
                    let cure = "calibrate with --calib and `--emit-plan` to get an entry for it, or keep its nodes";
                    return Err(self.refuse(format!("activation `{name}`"), "the plan has no entry for it", cure));
                };
                let wide = recipe.wide_activation_grid().filter(|(qtype, _)| entry.qtype == qtype.name());
                let grid = || recipe.activation_grid(graph, *value, &selection.decisions);
                let params = self.activation(entry, wide.unwrap_or_else(grid))?;
                let parts = |p: &QuantParams| (p.qtype(), p.scale().to_vec(), p.zero_point().to_vec());
                let same = |other: &QuantParams| parts(other) == parts(&params);
                if first.as_ref().is_some_and(|first| !same(first)) {
                    let cause = "its parameters must equal those of the tensors it shares codes with";
                    let cure = "change the entries with the same `shares_with` together";
                    return Err(self.refuse(format!("activation `{name}`"), cause, cure));
                }
                // Who shares with whom follows from the model; in the file it is for the reader.
                let shares = group.voters.first().copied().unwrap_or(*value);
                first.get_or_insert_with(|| params.clone());
                let (method, sqnr_db) = (entry.method.clone(), entry.sqnr_db);
                given.insert(*value, ActivationPlan { params, shares, method, sqnr_db });
            }
        }
        Ok(given)
    }

    fn activation(&self, entry: &ActivationEntry, (qtype, symmetric): (QuantType, bool)) -> Result<QuantParams, Error> {
        let place = || format!("activation `{}`", entry.tensor);
        if entry.qtype != qtype.name() {
            let cause = format!("its type is {}, but activations are {qtype} here", entry.qtype);
            return Err(self.refuse(place(), cause, "give the `--activations` that the plan was made with"));
        }
        let cure = "scales are positive, zero points lie within the codes of the type";
        let params = QuantParams::per_tensor(qtype, entry.scale, entry.zero_point);
        let params = params.map_err(|e| self.refuse(place(), e.to_string(), cure))?;
        let centre = if qtype.is_signed() { 0 } else { qtype.qmax() / 2 + 1 };
        if symmetric && entry.zero_point != centre {
            let cause = format!("its zero point is {}, in the middle of the codes lies {centre}", entry.zero_point);
            return Err(self.refuse(place(), cause, "leave out `--symmetric-activations`, or change the zero point"));
        }
        let range = entry.range.map(|[lo, hi]| Range::new(lo, hi)).transpose();
        let range =
            range.map_err(|e| self.refuse(place(), e.to_string(), "its range is for the reader; leave it out"))?;
        Ok(range.map_or_else(|| params.clone(), |range| params.clone().with_range(range)))
    }

    /// Entries of constants in the order of the nodes that have the same name.
    fn constants(&self, graph: &Graph, selection: &Selection) -> BTreeMap<(NodeId, usize), &ConstantEntry> {
        let labels: BTreeMap<NodeId, String> = graph.nodes().map(|(id, _)| (id, graph.label(id))).collect();
        let mut entries: BTreeMap<(&str, usize), Vec<&ConstantEntry>> = BTreeMap::new();
        for entry in self.file.constants.iter().rev() {
            entries.entry((&entry.node, entry.operand)).or_default().push(entry);
        }
        let mut given = BTreeMap::new();
        for (id, node) in graph.nodes().filter(|(id, _)| selection.codes_constants(*id)) {
            let Some(label) = labels.get(&id) else { continue };
            // A bias that the model has not may have an entry, too.
            for slot in 0..node.inputs.len().max(BIAS + 1) {
                if let Some(entry) = entries.get_mut(&(label.as_str(), slot)).and_then(Vec::pop) {
                    given.insert((id, slot), entry);
                }
            }
        }
        given
    }

    fn constant(&self, entry: &ConstantEntry) -> Result<QuantParams, Error> {
        let place = || described_constant(entry);
        let qtype = QuantType::ALL.into_iter().find(|t| t.name() == entry.qtype).ok_or_else(|| {
            let known: Vec<&str> = QuantType::ALL.iter().map(|t| t.name()).collect();
            self.refuse(place(), format!("`{}` is no type", entry.qtype), &format!("types are {}", known.join(", ")))
        })?;
        let params = match (entry.axis, entry.scale.as_slice()) {
            (Some(axis), scale) if entry.group.is_some() => {
                let blocks = Blocks { axis, size: entry.group.unwrap_or_default() };
                let zero_points = entry.zero_points.clone().unwrap_or_else(|| vec![0; scale.len()]);
                QuantParams::blocked(qtype, blocks, scale.to_vec(), zero_points)
            }
            (Some(axis), _) => QuantParams::per_channel(qtype, axis, entry.scale.clone()),
            (None, [scale]) => QuantParams::per_tensor(qtype, *scale, entry.zero_point.unwrap_or(0)),
            (None, scales) => {
                let cause = format!("{} scales without an axis", scales.len());
                return Err(self.refuse(place(), cause, "give `axis`, or one scale"));
            }
        };
        params.map_err(|e| self.refuse(place(), e.to_string(), "scales are positive, zero points lie within the codes"))
    }
}

/// How messages call the constant of an entry.
fn described_constant(entry: &ConstantEntry) -> String {
    format!("node `{}`, operand {} (`{}`)", entry.node, entry.operand, entry.tensor)
}

/// What is wrong, without the position that stands before it.
fn described(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Prescription::parse(Path::new("p.json"), text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_plan_is_refused_with_its_place() {
        assert_eq!(error("{"), "p.json: line 1, column 1: EOF while parsing an object");
        let fields = r#""model":"m","range":"minmax","activations":[],"constants":[],"nodes":[]"#;
        assert!(error(&format!(r#"{{"format":"x","version":1,{fields}}}"#)).contains("`x` is not `quantize-plan`"));
        assert!(error(&format!(r#"{{"format":"quantize-plan","version":9,{fields}}}"#)).contains("version 9"));
        let typo = format!(r#"{{"format":"quantize-plan","version":1,{fields},"node":[]}}"#);
        assert!(error(&typo).contains("unknown field `node`"), "{}", error(&typo));
    }
}
