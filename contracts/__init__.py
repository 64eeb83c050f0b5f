"""What an event is: names, errors, schemas, typed structs, codec and envelope. Needs nothing but msgspec."""
