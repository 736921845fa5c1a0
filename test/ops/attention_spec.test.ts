import { runCases } from "../support/run_cases.ts";
import { cases } from "./attention_spec.cases.ts";

await runCases(cases);
