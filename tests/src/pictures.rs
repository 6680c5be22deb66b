//! Images made for a test: of one colour, grey, with an alpha channel, tiny.

use crate::sandbox::Sandbox;
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use std::io::Cursor;

/// An image of one colour.
#[must_use]
pub fn plain(width: u32, height: u32, colour: [u8; 3]) -> DynamicImage {
    RgbImage::from_pixel(width, height, Rgb(colour)).into()
}

/// A grey ramp.
#[must_use]
pub fn gray(width: u32, height: u32) -> DynamicImage {
    GrayImage::from_fn(width, height, |x, y| Luma([level(x, y)])).into()
}

/// The same ramp in three channels.
#[must_use]
pub fn gray_in_colour(width: u32, height: u32) -> DynamicImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([level(x, y); 3])).into()
}

/// The same ramp in three channels, with an alpha channel that varies too.
#[must_use]
pub fn with_alpha(width: u32, height: u32) -> DynamicImage {
    let pixel = |x, y| {
        let level = level(x, y);
        Rgba([level, level, level, 255 - level])
    };
    RgbaImage::from_fn(width, height, pixel).into()
}

/// `sixteenths` of the way from one image to another of the same size.
#[must_use]
pub fn blend(a: &RgbImage, b: &RgbImage, sixteenths: u16) -> DynamicImage {
    let part = |a: u8, b: u8| ((u16::from(a) * (16 - sixteenths) + u16::from(b) * sixteenths) / 16) as u8;
    let pixel = |x, y| {
        let (a, b) = (a.get_pixel(x, y).0, b.get_pixel(x, y).0);
        Rgb([part(a[0], b[0]), part(a[1], b[1]), part(a[2], b[2])])
    };
    RgbImage::from_fn(a.width(), a.height(), pixel).into()
}

fn level(x: u32, y: u32) -> u8 {
    (x * 13 + y * 7) as u8
}

/// Writes an image as PNG.
///
/// # Panics
/// If it cannot be encoded.
pub fn write(sandbox: &Sandbox, name: &str, image: &DynamicImage) {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).expect("an image");
    sandbox.write(name, bytes.into_inner());
}
