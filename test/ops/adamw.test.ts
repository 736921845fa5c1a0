import { runCases } from "../support/run_cases.ts";
import { cases } from "./adamw.cases.ts";

await runCases(cases);
