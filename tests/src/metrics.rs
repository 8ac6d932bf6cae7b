//! Metrics in the text format of Prometheus.

use crate::{Http, address_of};

/// The metrics of one process at one moment.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Fetches them.
    ///
    /// # Panics
    /// If they are not served there.
    pub fn fetch(url: &str) -> Metrics {
        let (_, path) = address_of(url);
        let response = Http::connect(url).request("GET", path, &[], "");
        assert_eq!(response.status, 200, "{url}");
        Metrics(response.text())
    }

    /// The value of a metric; the sum over its labels if it has any.
    ///
    /// # Panics
    /// If there is no metric of this name.
    pub fn value(&self, name: &str) -> f64 {
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let is_this = rest.starts_with([' ', '{']);
            is_this.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
        };
        let values: Vec<f64> = self.0.lines().filter_map(value).collect();
        assert!(!values.is_empty(), "no metric {name} in:\n{}", self.0);
        values.iter().sum()
    }
}

#[cfg(test)]
mod tests;
