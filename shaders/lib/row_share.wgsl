// What row t of `count` contributes to the pooled row; the largest is no sum and is chosen where it is needed.

const MEAN: u32 = 0u;
const MEAN_SQRT_LEN: u32 = 1u;
const WEIGHTED_MEAN: u32 = 2u;
const LAST: u32 = 3u;
const MAX: u32 = 4u;

fn row_share(mode: u32, t: u32, count: u32) -> f32 {
  let n = f32(count);
  switch (mode) {
    case MEAN: {
      return 1.0 / n;
    }
    case MEAN_SQRT_LEN: {
      return 1.0 / sqrt(n);
    }
    case WEIGHTED_MEAN: {
      return f32(t + 1u) * 2.0 / (n * (n + 1.0));
    }
    default: {
      return select(0.0, 1.0, mode == LAST && t + 1u == count);
    }
  }
}
