import { runCases } from "../support/run_cases.ts";
import { cases } from "./attention_unfused.cases.ts";

await runCases(cases);
