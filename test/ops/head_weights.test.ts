import { runCases } from "../support/run_cases.ts";
import { cases } from "./head_weights.cases.ts";

await runCases(cases);
