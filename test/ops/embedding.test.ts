import { runCases } from "../support/run_cases.ts";
import { cases } from "./embedding.cases.ts";

await runCases(cases);
