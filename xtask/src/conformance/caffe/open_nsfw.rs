//! open_nsfw: the network of which accuracy is required, with its calibration and test photos.

use std::path::{Path, PathBuf};

use super::networks::{self, Network};
use crate::conformance::context::Context;
use crate::conformance::files::{Choice, some_photos};
use crate::error::{Error, Result};

/// Its name among the networks.
const NAME: &str = "open_nsfw";

/// The calibration photos, out of `images/calib`.
pub(super) const FEW: Choice = Choice { first: 0, step: 12, count: 8 };
/// The larger set of them.
pub(super) const MANY: Choice = Choice { first: 0, step: 3, count: 32 };
/// The test photos, out of `images/val`.
const TEST: Choice = Choice { first: 5, step: 20, count: 20 };

/// The network and where its photos come from.
pub(super) struct OpenNsfw {
    /// The network.
    pub(super) network: Network,
    images: PathBuf,
}

impl OpenNsfw {
    /// Finds the network in the shared folder.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub(super) fn find(shared: &Path) -> Result<Self> {
        let network = networks::find(shared)?.into_iter().find(|network| network.name == NAME);
        let network = network.ok_or(Error::NothingToCheck { what: "models/caffe/open_nsfw in the shared folder" })?;
        Ok(Self { network, images: shared.join("images") })
    }

    /// A folder with the chosen calibration photos.
    ///
    /// # Errors
    ///
    /// If they cannot be copied.
    pub(super) fn calibration(&self, context: &Context, choice: Choice) -> Result<PathBuf> {
        let folder = context.folder("images")?.join(format!("calib-{}", choice.count));
        some_photos(&self.images.join("calib"), &folder, choice)
    }

    /// A folder with the test photos.
    ///
    /// # Errors
    ///
    /// If they cannot be copied.
    pub(super) fn test(&self, context: &Context) -> Result<PathBuf> {
        some_photos(&self.images.join("val"), &context.folder("images")?.join("test"), TEST)
    }
}
