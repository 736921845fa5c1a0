import { runCases } from "../support/run_cases.ts";
import { cases } from "./layer_norm.cases.ts";

await runCases(cases);
