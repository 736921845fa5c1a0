// No token is banned or made less likely.

fn rule_penalty(row: u32) -> f32 {
  return 1.0;
}

fn rule_banned(row: u32, token: u32) -> bool {
  return false;
}

fn rule_seen(row: u32, token: u32) -> bool {
  return false;
}
