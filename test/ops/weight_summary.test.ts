import { runCases } from "../support/run_cases.ts";
import { cases } from "./weight_summary.cases.ts";

await runCases(cases);
