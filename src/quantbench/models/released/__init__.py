"""Networks whose weights other papers' authors released, read as their code saves them."""
