import { runCases } from "../support/run_cases.ts";
import { cases } from "./rope.cases.ts";

await runCases(cases);
