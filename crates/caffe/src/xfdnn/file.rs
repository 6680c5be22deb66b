//! The quantization file as data: one entry for each layer the hardware runs, made from thresholds and read back.
//!
//! Everything in an entry but the thresholds follows from them. How the text looks is the business of [`super::json`],
//! which layers have an entry that of [`super::backend`].

use super::json::{TextStyle, to_text};
use crate::error::CaffeError;
use quantize_document::SourceFile;
use quantize_numerics::NumericsError;
use quantize_numerics::xfdnn::multiplier::{average_factor, channel_scale_factor, eltwise_factor, product_factor};
use quantize_numerics::xfdnn::{
    BitWidth, Flavor, Limits, Multiplier, Stage, power_of_two_threshold, scale_factor, weight_scale_factor,
};
use serde::{Deserialize, Serialize};

/// A quantization file, as the xfDNN quantizer writes and the xfDNN compiler reads it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuantizationFile {
    /// Entries in the order of the network's layers.
    pub network: Vec<Entry>,
}

/// What the hardware needs to know of one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the layer.
    pub name: String,
    /// Bits of the input's codes.
    pub bw_layer_in: u32,
    /// Bits of the output's codes.
    pub bw_layer_out: u32,
    /// Bits of the weights' codes, where there are weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bw_params: Option<u32>,
    /// Threshold of the input: its codes stand for [-th, th].
    pub th_layer_in: f64,
    /// Threshold of the output, after an activation that belongs to the layer.
    pub th_layer_out: f64,
    /// Threshold of the weights of each output channel, `f32` values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub th_params: Option<Vec<f64>>,
    /// Width of one step of the input.
    #[serde(default)]
    pub sf_layer_in: f64,
    /// Width of one step of the output.
    #[serde(default)]
    pub sf_layer_out: f64,
    /// Width of one step of the weights of each output channel, `f32` values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sf_params: Option<Vec<f64>>,
    /// Right shift before the multiplication: one for each output channel, or one for all.
    pub prescale_shift: Vec<u32>,
    /// Integer multiplier; as many.
    pub scale: Vec<i32>,
    /// Right shift after the multiplication; as many.
    pub postscale_shift: Vec<u32>,
}

/// What an entry is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerThresholds {
    /// Name of the layer.
    pub name: String,
    /// Threshold of the input.
    pub input: f64,
    /// Threshold of the output.
    pub output: f64,
    /// What the layer computes.
    pub kind: LayerKind,
}

/// What a layer with an entry computes.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerKind {
    /// Convolution or inner product, with the largest weight magnitude of each output channel.
    Product {
        /// Thresholds of the weights.
        weights: Vec<f32>,
    },
    /// A factor for each channel.
    ChannelScale {
        /// The factors.
        factors: Vec<f32>,
        /// Their thresholds, magnitudes as those of weights.
        thresholds: Vec<f32>,
        /// Whether the integer multiplier contains the factor's code; release 1.3 left it out.
        includes_factor: bool,
    },
    /// Sum or maximum of tensors of the same threshold.
    Eltwise,
    /// Mean over a window.
    AveragePool {
        /// Number of channels.
        channels: usize,
        /// Elements of the window.
        window: usize,
    },
}

/// The form of the numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFormat {
    /// Generation of the hardware.
    pub flavor: Flavor,
    /// Width of all codes.
    pub bits: BitWidth,
}

impl LayerThresholds {
    /// The same with thresholds raised until every step is a power of two, and one threshold for all weights.
    #[must_use]
    pub fn with_power_of_two_steps(self, bits: BitWidth) -> Self {
        let raised = |th: f64| power_of_two_threshold(th, bits);
        let shared = |thresholds: &[f32]| {
            let largest = thresholds.iter().fold(0f32, |m, th| m.max(*th));
            // A power of two times 127 or 32767 has few enough digits for f32.
            vec![raised(f64::from(largest)) as f32; thresholds.len()]
        };
        let kind = match self.kind {
            LayerKind::Product { weights } => LayerKind::Product { weights: shared(&weights) },
            LayerKind::ChannelScale { factors, thresholds, includes_factor } => {
                LayerKind::ChannelScale { thresholds: shared(&thresholds), factors, includes_factor }
            }
            kind @ (LayerKind::Eltwise | LayerKind::AveragePool { .. }) => kind,
        };
        Self { input: raised(self.input), output: raised(self.output), name: self.name, kind }
    }
}

impl Entry {
    /// The entry of a layer. A layer whose output threshold is 0 gets multipliers of 0.
    pub fn new(layer: &LayerThresholds, format: FileFormat) -> Self {
        let FileFormat { flavor, bits } = format;
        let (sf_in, sf_out) = (scale_factor(layer.input, bits), scale_factor(layer.output, bits));
        let step = |th: &f32| weight_scale_factor(*th, bits);
        let (th_params, factors): (Option<Vec<f32>>, Vec<f64>) = match &layer.kind {
            LayerKind::Product { weights } => {
                let factors = weights.iter().map(|th| product_factor(sf_in, step(th), sf_out)).collect();
                (Some(weights.clone()), factors)
            }
            LayerKind::ChannelScale { factors, thresholds, includes_factor } => {
                let of = |(gamma, th): (&f32, &f32)| match includes_factor {
                    true => channel_scale_factor(sf_in, *gamma, step(th), sf_out, bits),
                    false => product_factor(sf_in, step(th), sf_out),
                };
                (Some(thresholds.clone()), factors.iter().zip(thresholds).map(of).collect())
            }
            LayerKind::Eltwise => (None, vec![eltwise_factor(sf_in, sf_out)]),
            LayerKind::AveragePool { channels, window } => {
                (None, vec![average_factor(sf_in, sf_out, *window); *channels])
            }
        };
        let stage = if matches!(layer.kind, LayerKind::Product { .. }) { Stage::Product } else { Stage::Elementwise };
        let limits = Limits::of(flavor, bits, stage);
        let multipliers: Vec<Multiplier> = factors.into_iter().map(|f| Multiplier::decompose(f, limits)).collect();
        let widened = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
        Self {
            name: layer.name.clone(),
            bw_layer_in: bits.bits(),
            bw_layer_out: bits.bits(),
            bw_params: th_params.is_some().then_some(bits.bits()),
            th_layer_in: layer.input,
            th_layer_out: layer.output,
            sf_layer_in: sf_in,
            sf_layer_out: sf_out,
            sf_params: th_params.as_ref().map(|th| widened(th.iter().map(step).collect())),
            th_params: th_params.map(widened),
            prescale_shift: multipliers.iter().map(|m| m.prescale_shift).collect(),
            scale: multipliers.iter().map(|m| m.scale).collect(),
            postscale_shift: multipliers.iter().map(|m| m.postscale_shift).collect(),
        }
    }

    /// The multiplier of output channel `channel`; one for all if the entry has only one.
    pub fn multiplier(&self, channel: usize) -> Option<Multiplier> {
        let at = if self.scale.len() == 1 { 0 } else { channel };
        Some(Multiplier {
            prescale_shift: *self.prescale_shift.get(at)?,
            scale: *self.scale.get(at)?,
            postscale_shift: *self.postscale_shift.get(at)?,
        })
    }

    /// Width of the codes.
    ///
    /// # Errors
    /// If it is not 8 or 16, or not the same for input, weights and output.
    pub fn bits(&self) -> Result<BitWidth, String> {
        let widths = [Some(self.bw_layer_in), Some(self.bw_layer_out), self.bw_params];
        if let Some(other) = widths.into_iter().flatten().find(|w| *w != self.bw_layer_in) {
            return Err(format!(
                "bw_layer_in is {}, but another width is {other}; all must be equal",
                self.bw_layer_in
            ));
        }
        BitWidth::try_from(i64::from(self.bw_layer_in)).map_err(|e: NumericsError| e.to_string())
    }

    fn check(&self) -> Result<(), String> {
        self.bits()?;
        let lengths = [self.prescale_shift.len(), self.scale.len(), self.postscale_shift.len()];
        if lengths != [self.scale.len(); 3] || self.scale.is_empty() {
            return Err(format!("prescale_shift, scale and postscale_shift have {lengths:?} elements"));
        }
        let thresholds =
            [self.th_layer_in, self.th_layer_out].into_iter().chain(self.th_params.iter().flatten().copied());
        let bad = thresholds.clone().find(|th| !(th.is_finite() && *th >= 0.0 && *th <= f64::from(f32::MAX)));
        match bad {
            Some(th) => Err(format!("the threshold {th} is negative or not finite")),
            None => Ok(()),
        }
    }
}

impl QuantizationFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it is not JSON, has no `network`, or an entry contradicts itself; names the entry.
    pub fn parse(source: &SourceFile) -> Result<Self, CaffeError> {
        let refuse = |entry: Option<&str>, cause: String| CaffeError::Quantization {
            file: source.path().to_owned(),
            entry: entry.map(str::to_owned),
            cause,
        };
        let broken = |error| CaffeError::QuantizationText { file: source.path().to_owned(), source: error };
        let file: Self = serde_json::from_slice(source.bytes()).map_err(broken)?;
        if file.network.is_empty() {
            return Err(refuse(None, "`network` has no entries".into()));
        }
        let mut names = std::collections::BTreeSet::new();
        for entry in &file.network {
            entry.check().map_err(|cause| refuse(Some(&entry.name), cause))?;
            if !names.insert(entry.name.as_str()) {
                return Err(refuse(Some(&entry.name), "there are two entries of this name".into()));
            }
        }
        Ok(file)
    }

    /// The text of the file.
    ///
    /// # Errors
    /// If a number is not finite.
    pub fn to_text(&self, style: TextStyle) -> Result<String, serde_json::Error> {
        to_text(self, style)
    }

    /// The entry of a layer.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.network.iter().find(|e| e.name == name)
    }

    /// The generation of the hardware the multipliers are made for: those of v2 have 8 bits.
    pub fn flavor(&self) -> Flavor {
        let largest = self.network.iter().flat_map(|e| &e.scale).map(|s| s.unsigned_abs()).max().unwrap_or(0);
        if largest > 255 { Flavor::V3 } else { Flavor::V2 }
    }
}
