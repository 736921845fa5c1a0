// Nobody asked for the log-sum-exp.

fn keep_lse(row: u32, value: f32) {}
