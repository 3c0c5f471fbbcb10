"""One module a stage: settings in, a Beam pipeline of named steps, tables out."""
