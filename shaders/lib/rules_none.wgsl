// No token is banned or made less likely.

const HAS_RULES: bool = false;

fn rule_penalty(row: u32) -> f32 {
  return 1.0;
}

fn rule_renormalised(row: u32) -> bool {
  return false;
}

fn rule_group(row: u32) -> u32 {
  return 0xffffffffu;
}

fn rule_banned(row: u32, token: u32) -> bool {
  return false;
}

fn rule_seen(row: u32, token: u32) -> bool {
  return false;
}
