"""Write finished datasets anew: filtered, resharded, merged. Pictures are copied by their place and never decoded."""
