//! Latency by percentile as SVG: both axes logarithmic, so that a stage of 1 us and a tail of 100 ms share one picture, and
//! each nine of the percentile has the same width.

use hdrhistogram::Histogram;
use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;

use kraft::server::control::latency::StageHistograms;

const SIZE: (u32, u32) = (1100, 640);
const NS_PER_US: f64 = 1000.0;
const TICKS_PER_HALF_DISTANCE: u32 = 20;
/// The picture shows at least up to 99.9 %, and at most seven nines.
const NINES_MIN: i32 = 3;
const NINES_MAX: i32 = 7;
/// Told apart also by people who do not tell red from green (Okabe and Ito).
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(0, 0, 0),
];

/// One curve per stage that has values.
pub(crate) fn svg(stages: &StageHistograms, title: &str) -> Result<String, String> {
    let mut text = String::new();
    draw(&mut text, stages, title).map_err(|e| format!("the plot cannot be drawn ({e})."))?;
    Ok(text)
}

type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn draw(text: &mut String, stages: &StageHistograms, title: &str) -> DrawResult {
    let shown: Vec<(&str, &Histogram<u64>)> = stages.iter().filter(|(_, h)| !h.is_empty()).collect();
    let x_end = x_end(&shown);
    let (y_begin, y_end) = y_range(&shown);
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("Latency of produce requests by percentile ({title})"), ("sans-serif", 20))
        .margin(20)
        .margin_right(45)
        .x_label_area_size(55)
        .y_label_area_size(85)
        .build_cartesian_2d((1.0..x_end).log_scale(), (y_begin..y_end).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile of requests")
        .y_desc("latency")
        .x_label_formatter(&|x| percentile_label(*x))
        .y_label_formatter(&|us| latency_label(*us))
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 17))
        .bold_line_style(BLACK.mix(0.22))
        .light_line_style(BLACK.mix(0.06))
        .draw()?;
    for (i, (name, histogram)) in shown.iter().enumerate() {
        let style = COLORS[i % COLORS.len()].stroke_width(2);
        let label =
            format!("{name} (p99 {})", latency_label(histogram.value_at_quantile(0.99) as f64 / NS_PER_US));
        chart
            .draw_series(LineSeries::new(curve(histogram, x_end, y_begin), style))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .legend_area_size(30)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 15))
        .draw()?;
    root.present()?;
    Ok(())
}

/// (1 / (1 - quantile), us), from the median's left to the last single request.
fn curve(histogram: &Histogram<u64>, x_end: f64, y_begin: f64) -> Vec<(f64, f64)> {
    let last = (histogram.len() as f64).clamp(1.0, x_end);
    let mut points: Vec<(f64, f64)> = Vec::new();
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        let x = (1.0 / (1.0 - step.quantile_iterated_to())).min(last);
        let us = (step.value_iterated_to() as f64 / NS_PER_US).max(y_begin);
        points.push((x, us));
        // What follows lies on the same vertical line: only its top counts, and that is the maximum.
        if x >= last {
            break;
        }
    }
    points.push((last, (histogram.max() as f64 / NS_PER_US).max(y_begin)));
    points
}

/// The power of ten at or above the largest count.
fn x_end(shown: &[(&str, &Histogram<u64>)]) -> f64 {
    let count = shown.iter().map(|(_, h)| h.len()).max().unwrap_or(1).max(1) as f64;
    10f64.powi((count.log10().ceil() as i32).clamp(NINES_MIN, NINES_MAX))
}

/// Powers of ten around all values, in us.
fn y_range(shown: &[(&str, &Histogram<u64>)]) -> (f64, f64) {
    let us = |ns: u64| (ns.max(1) as f64) / NS_PER_US;
    let min = shown.iter().map(|(_, h)| us(h.min())).fold(f64::MAX, f64::min).min(1e9);
    let max = shown.iter().map(|(_, h)| us(h.max())).fold(f64::MIN, f64::max).max(min * 1.01);
    let begin = 10f64.powi(min.log10().floor() as i32);
    (begin, 10f64.powi(max.log10().ceil() as i32).max(begin * 10.0))
}

/// 1 is 0 %, 10 is 90 %, 1000 is 99.9 %.
fn percentile_label(x: f64) -> String {
    let nines = x.log10().round() as i32;
    match nines {
        ..=0 => "0 %".to_string(),
        1 => "90 %".to_string(),
        2 => "99 %".to_string(),
        n => format!("99.{} %", "9".repeat(n as usize - 2)),
    }
}

fn latency_label(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 0.9995 => (us * 1000.0, "ns"),
        us if us < 999.5 => (us, "us"),
        us if us < 999_500.0 => (us / 1000.0, "ms"),
        us => (us / 1_000_000.0, "s"),
    };
    // One decimal below ten, unless it is a zero.
    let tenths = (value * 10.0).round() as u64;
    if tenths < 100 && !tenths.is_multiple_of(10) {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_readable() {
        let percentiles = [1.0, 10.0, 100.0, 1000.0, 100_000.0].map(percentile_label);
        assert_eq!(percentiles, ["0 %", "90 %", "99 %", "99.9 %", "99.999 %"]);
        let latencies = [0.1, 1.0, 2.5, 10.0, 999.9, 1500.0, 100_000.0, 1_000_000.0].map(latency_label);
        assert_eq!(latencies, ["100 ns", "1 us", "2.5 us", "10 us", "1 ms", "1.5 ms", "100 ms", "1 s"]);
    }
}
