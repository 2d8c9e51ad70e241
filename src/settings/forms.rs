//! Values with a form of their own, and values that depend on other settings.

use serde_json::Value;

use crate::device::Device;

/// What the schedule's peak must look like.
const NEED: &str = "must be an epoch, such as 5, or a share of the epochs, such as 20% or 5/24, perhaps with \
     an upper limit: \"5/24, at most 5\"";

/// A share of a run's epochs.
enum Share {
    Percent(f64),
    Fraction(f64, f64),
}

/// A share and the largest epoch it may come to.
fn parse(text: &str) -> Option<(Share, f64)> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number >= 0.0);
    let (share, most) = match text.split_once(',') {
        Some((share, limit)) => (share, number(limit.trim().strip_prefix("at most ")?)?),
        None => (text, f64::INFINITY),
    };
    if let Some(percent) = share.trim().strip_suffix('%') {
        return Some((Share::Percent(number(percent)?), most));
    }
    let (above, below) = share.split_once('/')?;
    Some((Share::Fraction(number(above)?, number(below).filter(|below| *below > 0.0)?), most))
}

/// Reads the epoch of the schedule's peak, or a share of the epochs; the error says what it must be.
pub fn peak(text: &str) -> Result<Value, String> {
    match text.parse::<f64>() {
        Ok(epoch) if epoch.is_finite() => Ok(epoch.into()),
        Err(_) if parse(text).is_some() => Ok(text.into()),
        _ => Err(NEED.into()),
    }
}

/// The epoch that a value of [`peak`] comes to in a run of so many epochs.
pub fn peak_epoch(value: &Value, look: &dyn Fn(&str) -> Value) -> Value {
    let (Some(text), Some(epochs)) = (value.as_str(), look("train.epochs").as_f64()) else {
        return value.clone();
    };
    let epoch = parse(text).map(|(share, most)| match share {
        Share::Percent(percent) => (epochs * (percent / 100.0)).min(most),
        Share::Fraction(above, below) => (epochs * above / below).min(most),
    });
    epoch.map_or(value.clone(), Value::from)
}

/// Reads a number of images, or `all`.
pub fn images(text: &str) -> Result<Value, String> {
    match text.parse::<u32>() {
        Ok(0) => Err("training needs at least 1 image".into()),
        Ok(images) => Ok(images.into()),
        Err(_) if text == "all" => Ok("all".into()),
        Err(_) => Err("must be a number of images, or all".into()),
    }
}

/// Reads the path of a file, or `none`.
pub fn file(text: &str) -> Result<Value, String> {
    if text.is_empty() { Err("must be a file, or none".into()) } else { Ok(text.into()) }
}

/// A file's path from the root, so that it is the same file in whichever folder the run goes on.
pub fn absolute(value: &Value, _: &dyn Fn(&str) -> Value) -> Value {
    let path = value.as_str().filter(|text| *text != "none").and_then(|text| std::path::absolute(text).ok());
    path.and_then(|path| Some(path.to_str()?.into())).unwrap_or_else(|| value.clone())
}

/// Reads patterns of names.
pub fn patterns(text: &str) -> Result<Value, String> {
    match text.split(',').any(|pattern| pattern.trim().is_empty()) {
        true => Err("must be patterns of tensors' names, such as \"layer1*, bn?.weight\"".into()),
        false => Ok(text.into()),
    }
}

/// Reads a device's name.
pub fn device(text: &str) -> Result<Value, String> {
    Ok(text.parse::<Device>()?.to_string().into())
}

/// `auto` is what was chosen when the settings were put together.
pub fn chosen_device(value: &Value, look: &dyn Fn(&str) -> Value) -> Value {
    if value == "auto" { look("device.name") } else { value.clone() }
}

/// `auto` is the device's own.
pub fn precision(value: &Value, look: &dyn Fn(&str) -> Value) -> Value {
    match look("device.name").as_str().and_then(|name| name.parse::<Device>().ok()) {
        Some(device) if value == "auto" => device.precision().to_string().into(),
        _ => value.clone(),
    }
}

/// `auto` is `interleaved` for random masks: none is better than another, and weights that two workers share
/// would only be fewer.
pub fn worker_masks(value: &Value, look: &dyn Fn(&str) -> Value) -> Value {
    match look("mask.kind") == "random" {
        _ if value != "auto" => value.clone(),
        true => "interleaved".into(),
        false => "same".into(),
    }
}
