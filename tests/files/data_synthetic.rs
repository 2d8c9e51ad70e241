//! The synthetic set: repeatable, varied, and told apart by drawing rather than colour.

use fishmask::data::synthetic::dataset;
use fishmask::data::{IMAGE, Split};

#[test]
fn same_bits_for_the_same_seed_and_any_threads() {
    let with = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| dataset(200, 100, seed))
    };
    let data = with(1, 7);
    assert!(data == with(2, 7));
    assert!(data != with(1, 8));
    assert_eq!((data.set().name, data.train.len(), data.test.len()), ("synthetic", 200, 100));
    assert!(data.train.images[..100 * IMAGE] != data.test.images[..]);
    assert!(dataset(30, 0, 7).train == data.train.truncated(30));
}

#[test]
fn classes_are_equally_many() {
    let train = dataset(1000, 0, 0).train;
    assert!((0..10).all(|class| train.labels.iter().filter(|&&label| label == class).count() == 100));
}

/// The mean colour of each picture.
fn colours(split: &Split) -> Vec<[f64; 3]> {
    let mean = |image: &[u8]| {
        std::array::from_fn(|c| image.iter().skip(c).step_by(3).map(|&v| f64::from(v)).sum::<f64>() / 1024.0)
    };
    split.images.chunks(IMAGE).map(mean).collect()
}

fn mean_and_deviation(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    (mean, (values.map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}

#[test]
fn classes_have_the_same_mean_colour() {
    let train = dataset(20_000, 0, 0).train;
    let colours = colours(&train);
    for c in 0..3 {
        let (overall, deviation) = mean_and_deviation(colours.iter().map(|colour| colour[c]));
        // Pictures differ in colour by far more than noise, so that the comparison says something.
        assert!(deviation > 30.0, "{deviation}");
        for class in 0..10 {
            let of_class = colours.iter().skip(class).step_by(10).map(|colour| colour[c]);
            let (mean, own) = mean_and_deviation(of_class);
            // Five standard errors of a mean of 2000.
            assert!((mean - overall).abs() < 5.0 * own / 2000_f64.sqrt(), "class {class}: {mean} {overall}");
        }
    }
}

#[test]
fn pictures_of_a_class_differ() {
    let train = dataset(2000, 0, 0).train;
    for class in 0..10 {
        let of_class: Vec<_> = (class..2000).step_by(10).map(|i| train.image(i)).collect();
        for pair in of_class.windows(2) {
            let distance: u32 = pair[0].iter().zip(pair[1]).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
            // Noise alone would give about 12 a value: the mean difference of two triangles of -31..=31.
            assert!(distance > 15 * IMAGE as u32, "class {class}: {distance}");
        }
    }
}

/// Which pixels stand out, by their distance from the mean of their picture: a figure or its complement.
fn drawing(image: &[u8]) -> Vec<bool> {
    let grey: Vec<i32> = image.chunks(3).map(|p| p.iter().map(|&v| i32::from(v)).sum()).collect();
    let mean = grey.iter().sum::<i32>() / 1024;
    grey.iter().map(|&v| v > mean).collect()
}

/// How often horizontal and vertical neighbours differ tells horizontal from vertical stripes, whatever the
/// colours: the drawing carries the class.
#[test]
fn stripes_run_as_their_class_says() {
    let train = dataset(2000, 0, 0).train;
    let right = (0..2000).filter(|i| [5, 6].contains(&(i % 10))).filter(|&i| {
        let picture = drawing(train.image(i));
        let across = (0..1023).filter(|p| p % 32 != 31 && picture[*p] != picture[p + 1]).count();
        let down = (0..992).filter(|p| picture[*p] != picture[p + 32]).count();
        (across < down) == (i % 10 == 5)
    });
    // Grey hides some: figure and ground may be equally bright.
    let share = right.count() as f64 / 400.0;
    assert!(share > 0.9, "{share}");
}
